"""The speed of the network and of the server's disk."""

from __future__ import annotations

import random
from typing import Final

import msgspec

_SPIKE_CHANCE: Final = 0.01


class Latency(msgspec.Struct, frozen=True):
    """Seconds from one end of a connection to the other: about `typical`, rarely anything up to `spike`."""

    typical: float
    spike: float

    def draw(self, rng: random.Random) -> float:
        if rng.random() < _SPIKE_CHANCE:
            return rng.uniform(self.typical, self.spike)
        return self.typical * rng.uniform(0.5, 1.5)


class Disk(msgspec.Struct, frozen=True):
    """Seconds until a batch is on disk; 0 for a server that answers at once."""

    typical: float
