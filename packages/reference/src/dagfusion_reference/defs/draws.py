"""Reproducible random draws: each is a function of its partition, row and column alone.

A generator with a state would make a partition's rows depend on what was drawn before it. Here every draw hashes its
own address instead (splitmix64), so any set of partitions can be drawn at once, in any order, with the same result.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 2.0**-53


def seed_of(*address: object) -> int:
    """Return a 64-bit seed for an address such as (seed, asset, day, state)."""
    text = "|".join(str(part) for part in address)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def seeds_of(addresses: Sequence[tuple[object, ...]]) -> Keys:
    """Return the seeds of many addresses."""
    return np.array([seed_of(*address) for address in addresses], dtype=np.uint64)


def rows_of(seeds: Keys, counts: Integers) -> tuple[Keys, Integers]:
    """Return a key for each row of partitions with these seeds and row counts, and its place in the partition."""
    starts = np.cumsum(counts) - counts
    place = np.arange(counts.sum(), dtype=np.int64) - np.repeat(starts, counts)
    return _mix(np.repeat(seeds, counts) + (place.astype(np.uint64) + np.uint64(1)) * _GOLDEN), place


class Draws:
    """Draws for rows with these keys; each column name is an independent stream."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def uniform(self, column: str) -> Floats:
        """Return a number in [0, 1) for each row."""
        bits = _mix(self._keys ^ np.uint64(seed_of(column)))
        return (bits >> np.uint64(11)).astype(np.float64) * _UNIT

    def integers(self, column: str, low: int, high: int) -> Integers:
        """Return a whole number in [low, high) for each row."""
        return low + (self.uniform(column) * (high - low)).astype(np.int64)

    def choice(self, column: str, weights: Sequence[float]) -> Integers:
        """Return a position in `weights` for each row, as likely as its weight."""
        bounds = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.searchsorted(bounds[:-1] / bounds[-1], self.uniform(column), side="right").astype(np.int64)

    def normal(self, column: str) -> Floats:
        """Return a standard normal number for each row."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(f"{column}/radius")))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniform(f"{column}/angle")))


def _mix(keys: Keys) -> Keys:
    mixed = keys.copy()
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
