"""The run loop of every train script: runner.train_main(EXPERIMENT)."""
