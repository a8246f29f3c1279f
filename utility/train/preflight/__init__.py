"""What a train script does before a training: dry run, profile of the input, rate finder."""
