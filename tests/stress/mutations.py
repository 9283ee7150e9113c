"""Damage to the bytes of a file, as disks, networks and forgers do it; the same for the same seed."""

import random
from collections.abc import Sequence

# Sizes, counts and rates that headers lie with.
_NUMBERS = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
# Half of all damage is done here: what comes first in a file says how to read the rest.
_HEAD_BYTES = 128
_MOST_CHANGES = 4


def mutated(data: bytes, generator: random.Random, others: Sequence[bytes]) -> bytes:
    """A copy of `data` with one, two or four changes.

    Args:
        others: Files to take foreign pieces from.
    """
    for _ in range(generator.choice((1, 1, 2, _MOST_CHANGES))):
        data = generator.choice(_CHANGES)(data, generator, others)
    return data


def _position(data: bytes, generator: random.Random) -> int:
    end = min(len(data), _HEAD_BYTES) if generator.random() < 0.5 else len(data)
    return generator.randrange(end) if end else 0


def _flip_a_bit(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    content, position = bytearray(data), _position(data, generator)
    if content:
        content[position] ^= 1 << generator.randrange(8)
    return bytes(content)


def _overwrite(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    position = _position(data, generator)
    new = generator.randbytes(generator.randint(1, 64))
    return data[:position] + new + data[position + len(new) :]


def _set_a_number(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    position, size = _position(data, generator), generator.choice((1, 2, 4))
    number = generator.choice(_NUMBERS) % 2 ** (8 * size)
    new = number.to_bytes(size, generator.choice(("little", "big")))
    return data[:position] + new + data[position + size :]


def _cut_off(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: _position(data, generator)]


def _remove(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    position = _position(data, generator)
    return data[:position] + data[position + generator.randint(1, 2048) :]


def _repeat(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    position = _position(data, generator)
    return data[:position] + data[max(0, position - generator.randint(1, 2048)) :]


def _insert(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    position = _position(data, generator)
    return data[:position] + generator.randbytes(generator.randint(1, 512)) + data[position:]


def _clear(data: bytes, generator: random.Random, _: Sequence[bytes]) -> bytes:
    position, size = _position(data, generator), generator.randint(1, 4096)
    return data[:position] + bytes(len(data[position : position + size])) + data[position + size :]


def _go_on_as_another(data: bytes, generator: random.Random, others: Sequence[bytes]) -> bytes:
    other = generator.choice(others)
    return data[: _position(data, generator)] + other[_position(other, generator) :]


_CHANGES = (
    *(_flip_a_bit, _overwrite, _set_a_number, _set_a_number, _cut_off, _remove, _repeat, _insert, _clear),
    _go_on_as_another,
)
