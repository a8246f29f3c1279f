"""The wire format of protocol buffers (protobuf.dev, "Encoding"), read where it lies."""

from __future__ import annotations

from collections.abc import Iterator

VARINT_BYTES = 10
_VARINT, _DELIMITED, _FIXED = 0, 2, {1: 8, 5: 4}  # kinds of fields; those of so many bytes


def varint(data, position: int) -> tuple[int, int]:
    """Return an integer of seven bits a byte, and the position after it.

    Raises:
        IndexError: It does not end.
    """
    value = 0
    for number in range(VARINT_BYTES):
        byte = data[position + number]
        value |= (byte & 127) << (7 * number)
        if byte < 128:
            return value, position + number + 1
    raise IndexError('an integer without end')


def fields(data, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each field of a number that has a length: of a text or a message.

    Args:
        data: Bytes, which are read in part only.
        start, end: Of the message in them.

    Raises:
        IndexError: The message is none.
    """
    while start < end:
        tag, start = varint(data, start)
        kind = tag & 7
        if kind == _VARINT:
            _, start = varint(data, start)
        elif kind == _DELIMITED:
            size, start = varint(data, start)
            if start + size > end:
                raise IndexError('a field lies outside of its message')
            if tag >> 3 == number:
                yield start, start + size
            start += size
        elif kind in _FIXED:
            start += _FIXED[kind]
        else:
            raise IndexError(f'no field is of kind {kind}')
