"""Work in several processes."""

import pytest

from preprocessing.conversion.parallel import Workers


def square(number):
    return number * number


@pytest.mark.parametrize('num_workers', [1, 2])
def test_workers_keep_the_order_and_take_items_as_needed(num_workers):
    taken = []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    with Workers(num_workers) as workers:
        results = workers.map(square, items())
        assert next(results) == 0
        assert len(taken) <= 6
        assert list(results) == [number * number for number in range(1, 30)]


@pytest.mark.parametrize('num_workers', [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(num_workers):
    with Workers(num_workers) as workers, pytest.raises(TypeError, match='multiply'):
        list(workers.map(square, [1, 'a', 2]))
