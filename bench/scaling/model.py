"""How long a training step takes on any number of ranks: a prediction from what was measured on one and two.

An Allreduce of n bytes on P ranks takes ``2 log2(P) latency + 2 (P - 1) / P n / bandwidth``: recursive halving and
doubling (Thakur, Rabenseifner, Gropp, Int. J. High Performance Computing Applications 19, 2005). Buckets go one after
the other, each when it is ready and those before it have gone; the step ends when the last has come and the backward
pass is over, and then takes what it took on one rank besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """Constants of a network.

    Attributes
    ----------
    latency : float
        Seconds of a message.
    bandwidth : float
        Bytes a second.
    """

    latency: float
    bandwidth: float

    def allreduce(self, nbytes: float, ranks: int) -> float:
        """Seconds."""
        if ranks == 1:
            return 0.0
        return 2.0 * math.log2(ranks) * self.latency + 2.0 * (ranks - 1) / ranks * nbytes / self.bandwidth


def fitted(times: Sequence[tuple[int, float]]) -> Network:
    """The constants that give the measured Allreduces of two ranks: the latency of the smallest, the bandwidth of the
    largest.
    """
    (_, small), (nbytes, large) = times[0], times[-1]
    latency = small / 2.0
    return Network(latency, nbytes / max(large - small, 1e-9))


def step_seconds(
    network: Network, ranks: int, ready: Sequence[float], bucket_bytes: Sequence[int], rest: float
) -> float:
    """Of one training step.

    Parameters
    ----------
    network : Network
    ranks : int
    ready : sequence of float
        When each bucket is ready, and at the end when the backward pass is over, from the step's begin.
    bucket_bytes : sequence of int
    rest : float
        Seconds of what comes after: the optimizer, and the sum of a few numbers.
    """
    free = 0.0
    for when, nbytes in zip(ready, bucket_bytes, strict=False):
        free = max(free, when) + network.allreduce(nbytes, ranks)
    return max(free, ready[-1]) + rest + network.allreduce(64, ranks)
