"""From annotations on disk to augmented batches."""


def __getattr__(name: str):
    # Late, so that `import preprocessing.schema` does not import TensorFlow.
    if name == 'make_input_fn':
        from preprocessing.input_fn import make_input_fn

        return make_input_fn
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
