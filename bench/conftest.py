"""What all suites share: numbers of threads, the machine's peak, and how an operation is measured.

`pytest bench --benchmark-enable` measures; without the option each benchmark runs once, as a test. A group is one case
at its numbers of threads. `extra_info` holds, beside the times: threads, isa, shape, sha256 of the result; and of the
median time: gflops, gbs, share_of_peak.
"""

import functools
from collections.abc import Callable
from typing import Any

import pytest

import nnpar
from nnpar._kernels import runtime
from nnpar.benchmark import Operation, multiply_add_peak, thread_counts


@pytest.fixture(params=thread_counts(nnpar.get_num_threads()), ids=lambda count: f"{count}-threads")
def threads(request: pytest.FixtureRequest) -> int:
    """Number of threads."""
    count: int = request.param
    return count


@pytest.fixture(scope="session")
def peak() -> Callable[[int], float]:
    """GFLOP/s of multiply-adds that touch no memory, of a number of threads; measured once for each."""

    @functools.cache
    def measured(threads: int) -> float:
        return max(multiply_add_peak(threads) for _ in range(5))

    return measured


@pytest.fixture(scope="session")
def hashes() -> dict[str, str]:
    """Of results, by case."""
    return {}


@pytest.fixture
def measure(
    benchmark: Any, threads: int, peak: Callable[[int], float], hashes: dict[str, str]
) -> Callable[[Callable[[], Operation]], None]:
    """Run what makes an operation, then the operation many times; check that threads do not change its bits."""

    def run(make: Callable[[], Operation]) -> None:
        with nnpar.num_threads(threads):
            operation = make()
            operation.step()  # once before the hash, so that updates in place are hashed after one run, too
            sha256 = operation.sha256()
            benchmark.group = operation.name
            benchmark.extra_info |= {
                "threads": threads,
                "isa": runtime.isa(),
                "shape": operation.shape,
                "sha256": sha256,
            }
            benchmark(operation.step)
        if benchmark.enabled:
            seconds = benchmark.stats.stats.median
            gflops = operation.step.flops / seconds / 1e9
            benchmark.extra_info |= {
                "gflops": gflops,
                "gbs": operation.step.bytes / seconds / 1e9,
                "share_of_peak": gflops / peak(threads),
            }
        assert hashes.setdefault(operation.name, sha256) == sha256

    return run
