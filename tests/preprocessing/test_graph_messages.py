"""What a graph fails with is found again in TensorFlow's error, whatever its wording."""

from __future__ import annotations

import pytest
import tensorflow as tf

from preprocessing.graph_messages import FAULTY_RECORD, NOT_FINITE, find, marked


@pytest.mark.parametrize('text', ['it\'s "so" [1]', 'two\\three', 'a; b: 1.5e-07, </c>', ''])
@pytest.mark.parametrize('is_graph', [True, False])
def test_a_message_is_found_as_it_was_marked(text, is_graph):
    def fail():
        message = tf.strings.join(marked(NOT_FINITE, ['step ', tf.constant(text)]))
        return tf.debugging.Assert(False, [message], summarize=1)

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        if is_graph:
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                session.run(fail())
        else:
            fail()
    assert find(NOT_FINITE, caught.value) == f'step {text}'
    assert find(FAULTY_RECORD, caught.value) is None


def test_other_errors_hold_no_message():
    assert find(NOT_FINITE, tf.errors.InvalidArgumentError(None, None, 'not_finite')) is None
    assert find(NOT_FINITE, ValueError('<not_finite>a</not_finite>')) is None
