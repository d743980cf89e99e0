"""How fast this machine runs the operations of real networks, and how that grows with the number of threads.

Two ceilings are measured at each number of threads, beside the operations: multiply-adds that touch no memory, and a
ReLU over more memory than caches hold. Operations and numbers of threads take turns, so that what else the machine does
hits all alike; the median of many runs counts. The same input is hashed to the same digits at any number of threads.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from json import dumps
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Literal

import numpy as np

import nnpar
from nnpar import _checks, arrays, convolution, plots, shapes, threads
from nnpar._checks import Array, IntOrPair
from nnpar._kernels import elementwise, pool, runtime
from nnpar._kernels.gemm import gemm_step
from nnpar._kernels.step import Step
from nnpar.shapes import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BenchmarkResult", "Ceiling", "Operation", "Row", "multiply_add_peak", "run", "thread_counts"]

ROUNDS = 5  # turns of each operation at each number of threads
PEAK_SECONDS = 0.03  # of one measurement of the multiply-adds
MEMORY_SHAPE = (1 << 25,)  # 128 MiB each of input and output

Pass = Literal["forward", "input_grad", "weight_grad"]


@dataclass(frozen=True, eq=False)
class Operation:
    """A prepared step and the array that it writes.

    Attributes
    ----------
    name : str
    shape : str
        Sizes, for people.
    step : Step
        Calling it runs the operation once.
    result : ndarray, float32
    """

    name: str
    shape: str
    step: Step
    result: Array

    def sha256(self) -> str:
        """Hash of the result as float32 in the order of its axes, whatever its memory layout; 12 hexadecimal digits."""
        return hashlib.sha256(np.ascontiguousarray(self.result).tobytes()).hexdigest()[:12]


@dataclass(frozen=True)
class Ceiling:
    """What the machine can do with some threads.

    Attributes
    ----------
    threads : int
    gflops : float
        GFLOP/s of multiply-adds that touch no memory.
    gbs : float
        GB/s of a ReLU over large arrays, counted as 4 bytes read and 4 written for each element.
    """

    threads: int
    gflops: float
    gbs: float


@dataclass(frozen=True)
class Row:
    """One operation at one number of threads.

    Attributes
    ----------
    name, shape : str
    threads : int
    milliseconds, fastest_milliseconds : float
        Median and minimum of `runs` runs. All that follows is of the median.
    runs : int
    gflops, gbs : float
        GFLOP/s, and GB/s of what must be read and written at least. A convolution's FLOPs are those of its definition.
    share_of_peak : float
        Of the multiply-adds at this number of threads.
    speedup, efficiency : float
        Against one thread, and that for each thread.
    sha256 : str
        Hash of the result, its first 12 hexadecimal digits.
    """

    name: str
    shape: str
    threads: int
    milliseconds: float
    fastest_milliseconds: float
    runs: int
    gflops: float
    gbs: float
    share_of_peak: float
    speedup: float
    efficiency: float
    sha256: str


@dataclass(frozen=True)
class BenchmarkResult:
    """What :func:`run` measured.

    Attributes
    ----------
    machine : dict
        Processor, instruction set, cores, versions, date.
    ceilings : list of Ceiling
        One for each number of threads.
    rows : list of Row
        Operation after operation, each with its numbers of threads ascending.
    """

    machine: dict[str, str | int]
    ceilings: list[Ceiling]
    rows: list[Row]

    @property
    def different_bits(self) -> list[str]:
        """Names of operations whose result depends on the number of threads: none, unless nnpar has a bug."""
        hashes: defaultdict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            hashes[row.name].add(row.sha256)
        return [name for name, found in hashes.items() if len(found) > 1]

    def table(self) -> str:
        """All numbers as text for a terminal of 120 columns."""
        width = max(len(row.name) for row in self.rows)
        counts = [ceiling.threads for ceiling in self.ceilings]
        lines = [
            f"{self.machine['processor']}, {self.machine['cores']} cores, {self.machine['isa']}",
            f"nnpar {self.machine['nnpar']}, python {self.machine['python']}, numpy {self.machine['numpy']}, "
            f"{self.machine['system']}, {self.machine['date']}",
            "",
            f"{'ceilings':{width}}  threads  GFLOP/s    GB/s",
        ]
        lines += [f"{'':{width}}  {c.threads:7}  {c.gflops:7.1f}  {c.gbs:6.1f}" for c in self.ceilings]
        lines += [
            "GFLOP/s: multiply-adds that touch no memory.",
            f"GB/s: relu over {4 * MEMORY_SHAPE[0] >> 20} MiB, 4 bytes read and 4 written for each element.",
            "",
            f"{'operation':{width}}  threads        ms   fastest  GFLOP/s  of peak    GB/s"
            "  speed-up  efficiency  sha256",
        ]
        for row in self.rows:
            name = row.name if row.threads == counts[0] else ""
            lines.append(
                f"{name:{width}}  {row.threads:7}  {row.milliseconds:8.3f}  {row.fastest_milliseconds:8.3f}  "
                f"{row.gflops:7.1f}  {row.share_of_peak:7.0%}  {row.gbs:6.1f}  "
                f"{row.speedup:8.2f}  {row.efficiency:10.0%}  {row.sha256}"
            )
        lines += ["", "shapes"]
        lines += [f"{row.name:{width}}  {row.shape}" for row in self.rows if row.threads == counts[0]]
        numbers = ", ".join(map(str, counts))
        wrong = ", ".join(self.different_bits)
        lines += ["", f"DIFFERENT BITS at {numbers} threads: {wrong}" if wrong else f"same bits at {numbers} threads"]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw thread scaling, and the roofline at the largest number of threads.

        Parameters
        ----------
        path : path-like, optional
            File to save the picture in as well; its suffix tells the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        best = self.ceilings[-1]
        points = [(row.name, row.gflops / row.gbs, row.gflops) for row in self.rows if row.threads == best.threads]
        count = "1 thread" if best.threads == 1 else f"{best.threads} threads"
        title = f"{self.machine['processor']}, {count}, {self.machine['isa']}, nnpar {self.machine['nnpar']}"
        figure = plots.benchmark_report(self.rows, points, best.gflops, best.gbs, title)
        if path is not None:
            plots.save(figure, path)
        return figure

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write all numbers to a file: an object with ``machine``, ``ceilings`` and ``rows``.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        Path(path).write_text(dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def run(
    threads: int | None = None,
    seconds: float = 20.0,
    picture: str | os.PathLike[str] | None = None,
    json: str | os.PathLike[str] | None = None,
) -> BenchmarkResult:
    """Measure the ceilings and some operations at 1, 2, 4, ... threads.

    Parameters
    ----------
    threads : int, optional
        The largest number of threads; what operations may use now by default.
    seconds : float
        Time for the measurements; preparation comes on top. Each operation runs some times, however short it is.
    picture, json : path-like, optional
        Files to write, see :meth:`BenchmarkResult.plot` and :meth:`BenchmarkResult.to_json`.

    Returns
    -------
    BenchmarkResult

    Raises
    ------
    ImportError
        If a picture is wanted and matplotlib is missing; nothing has been measured then.
    FileNotFoundError
        If the folder of a file to write does not exist; nothing has been measured then.
    ValueError
        If `threads` or `seconds` is not positive.

    Examples
    --------
    >>> print(run(seconds=5).table())  # doctest: +SKIP
    """
    if _checks.number(seconds, "run", "seconds") <= 0.0:
        raise ValueError(f"run: seconds: expected more than 0, got {seconds}")
    counts = thread_counts(
        nnpar.get_num_threads() if threads is None else _checks.integer(threads, "run", "threads", 1)
    )
    for path in (picture, json):
        if path is not None and not Path(path).parent.is_dir():
            raise FileNotFoundError(f"run: no such folder: {Path(path).parent}")
    if picture is not None:
        plots.require_matplotlib()
    result = _measure(counts, seconds)
    if json is not None:
        result.to_json(json)
    if picture is not None:
        result.plot(picture)
    return result


def thread_counts(most: int) -> list[int]:
    """Numbers of threads to measure: the powers of two up to `most`, and `most`.

    Parameters
    ----------
    most : int

    Returns
    -------
    list of int

    Examples
    --------
    >>> thread_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({1 << i for i in range(most.bit_length())} | {most})


def multiply_add_peak(threads: int, seconds: float = PEAK_SECONDS) -> float:
    """GFLOP/s of multiply-adds that touch no memory, on some threads at once.

    Parameters
    ----------
    threads : int
    seconds : float
        How long to measure, about.

    Returns
    -------
    float
    """
    flops = 24.0 * runtime.vector_width()  # of a round
    sample = 100_000
    rounds = max(1, int(sample * seconds / min(runtime.multiply_add_seconds(sample) for _ in range(3))))
    ready = Barrier(threads)

    def work() -> tuple[float, float]:
        ready.wait()
        started = time.perf_counter()
        runtime.multiply_add_seconds(rounds)
        return started, time.perf_counter()

    with ThreadPoolExecutor(threads) as executor:
        spans = [future.result() for future in [executor.submit(work) for _ in range(threads)]]
    elapsed = max(ended for _, ended in spans) - min(started for started, _ in spans)
    return threads * rounds * flops / elapsed / 1e9


def numbers(shape: Shape, seed: int) -> Array:
    """Multiples of 2^-23 in [-1, 1), the same everywhere: arguments whose results can be compared by their hashes.

    Parameters
    ----------
    shape : tuple
    seed : int

    Returns
    -------
    ndarray of that shape, float32
        In the memory layout that kernels read.
    """
    generator = np.random.Philox(key=seed)
    flat = np.empty(math.prod(shape), np.float32)
    for start in range(0, flat.size, 1 << 20):  # in parts: raw numbers take twice the memory
        part = flat[start : start + (1 << 20)]
        part[...] = generator.random_raw(part.size) >> np.uint64(40)
    flat *= np.float32(2.0**-23)
    flat -= np.float32(1.0)
    array = arrays.empty(shape)
    array[...] = flat.reshape(shape)
    return array


def gemm(name: str, m: int, n: int, k: int) -> Operation:
    """(m, k) @ (k, n)."""
    c = arrays.empty((m, n))
    return Operation(name, f"({m}, {k}) @ ({k}, {n})", gemm_step(numbers((m, k), 1), numbers((k, n), 2), c), c)


def linear(name: str, batch: int, inputs: int, outputs: int) -> Operation:
    """A dense layer with bias, (N, in) @ (out, in).T."""
    y = arrays.empty((batch, outputs))
    step = gemm_step(numbers((batch, inputs), 1), numbers((outputs, inputs), 2).T, y, numbers((outputs,), 3))
    return Operation(name, f"({batch}, {inputs}) @ ({outputs}, {inputs}).T + bias", step, y)


def conv2d(
    name: str,
    input_shape: Shape,
    weight_shape: Shape,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    which: Pass = "forward",
) -> Operation:
    """One pass of a convolution, forward with bias; arguments as those of :func:`nnpar.ops.conv2d`."""
    shape = shapes.conv2d(input_shape, weight_shape, stride, padding, dilation, groups, "conv2d")
    step: Step
    if which == "forward":
        result = arrays.empty(shape.output_shape)
        bias = numbers((shape.output_shape[1],), 4)
        step = convolution.forward(shape, numbers(input_shape, 1), _weights(weight_shape), bias, result)
    elif which == "input_grad":
        result = arrays.empty(input_shape)
        step = convolution.input_grad(shape, numbers(shape.output_shape, 3), _weights(weight_shape), result)
    else:
        result = np.empty(weight_shape, np.float32)
        step = convolution.weight_grad(shape, numbers(input_shape, 1), numbers(shape.output_shape, 3), result)
    size = f"{shape.input_shape} * {shape.weight_shape}"
    for word, value, usual in (
        ("stride", shape.stride, (1, 1)),
        ("padding", shape.padding, (0, 0)),
        ("dilation", shape.dilation, (1, 1)),
        ("groups", shape.groups, 1),
    ):
        if value != usual:
            size += f", {word} {value}"
    return Operation(name, size, step, result)


def _weights(shape: Shape) -> Array:
    return np.ascontiguousarray(numbers(shape, 2))


def max_pool2d(
    name: str, input_shape: Shape, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
) -> Operation:
    """Max pooling with positions, as training does it; arguments as those of :func:`nnpar.ops.max_pool2d`."""
    shape = shapes.pool2d(input_shape, kernel_size, stride, padding, 1, False, "max_pool2d")
    y = arrays.empty(shape.output_shape)
    argmax = arrays.bytes_like(y)
    x = numbers(input_shape, 1)
    step = pool.MaxPool2d(x, y, argmax, shape.window)
    window = shape.window
    return Operation(name, f"{shape.input_shape}, window {window.kernel_size}, stride {window.stride}", step, y)


def relu(name: str, shape: Shape) -> Operation:
    """max(x, 0)."""
    y = arrays.empty(shape)
    return Operation(name, str(shape), elementwise.Relu(numbers(shape, 1), y), y)


def _operations() -> list[Operation]:
    """What `run` measures: layers of networks with their usual sizes, at batches that take milliseconds."""
    vgg: tuple[Shape, Shape] = (16, 64, 32, 32), (64, 64, 3, 3)
    resnet: tuple[Shape, Shape] = (16, 256, 14, 14), (256, 256, 3, 3)
    return [
        gemm("gemm", 1024, 1024, 1024),
        linear("linear", 128, 512, 512),
        conv2d("conv vgg", *vgg, padding=1),
        conv2d("conv vgg input grad", *vgg, padding=1, which="input_grad"),
        conv2d("conv vgg weight grad", *vgg, padding=1, which="weight_grad"),
        conv2d("conv resnet", *resnet, padding=1),
        conv2d("conv resnet input grad", *resnet, padding=1, which="input_grad"),
        conv2d("conv resnet weight grad", *resnet, padding=1, which="weight_grad"),
        conv2d("conv 1 to 32", (64, 1, 28, 28), (32, 1, 3, 3), padding=1),
        max_pool2d("max pool", (64, 64, 32, 32), 2),
        relu("relu", (64, 64, 32, 32)),
    ]


def _measure(counts: list[int], seconds: float) -> BenchmarkResult:
    # A step made for the most threads runs with fewer as well: one set of arrays serves all numbers of threads.
    with threads.num_threads(counts[-1]):
        operations = _operations()
        memory = relu("memory", MEMORY_SHAPE)
    share = seconds / (ROUNDS * len(counts) * (len(operations) + 2))
    timings: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    hashes: dict[tuple[str, int], str] = {}
    peaks = dict.fromkeys(counts, 0.0)
    for turn in _progress(range(ROUNDS)):
        for count in counts:
            with threads.num_threads(count):
                peaks[count] = max(peaks[count], multiply_add_peak(count))
                for operation in [memory, *operations]:
                    if turn == 0 and operation is not memory:
                        operation.result.fill(np.nan)
                        operation.step()
                        hashes[operation.name, count] = operation.sha256()
                    timings[operation.name, count] += _time(operation.step, share)
    ceilings = [
        Ceiling(count, peaks[count], memory.step.bytes / min(timings[memory.name, count]) / 1e9) for count in counts
    ]
    rows = []
    for operation in operations:
        single = statistics.median(timings[operation.name, 1])
        for ceiling in ceilings:
            runs = timings[operation.name, ceiling.threads]
            median = statistics.median(runs)
            gflops = operation.step.flops / median / 1e9
            rows.append(
                Row(
                    name=operation.name,
                    shape=operation.shape,
                    threads=ceiling.threads,
                    milliseconds=1e3 * median,
                    fastest_milliseconds=1e3 * min(runs),
                    runs=len(runs),
                    gflops=gflops,
                    gbs=operation.step.bytes / median / 1e9,
                    share_of_peak=gflops / ceiling.gflops,
                    speedup=single / median,
                    efficiency=single / median / ceiling.threads,
                    sha256=hashes[operation.name, ceiling.threads],
                )
            )
    return BenchmarkResult(_machine(), ceilings, rows)


def _time(work: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each run, for so many as fit and one at least, after a run that does not count."""
    work()
    runs: list[float] = []
    end = time.perf_counter() + seconds
    while not runs or time.perf_counter() < end:
        started = time.perf_counter()
        work()
        runs.append(time.perf_counter() - started)
    return runs


def _progress(turns: Iterable[int]) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(turns, desc="measuring", unit=" rounds", leave=False, disable=not sys.stderr.isatty())


def _machine() -> dict[str, str | int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "processor": _processor(),
        "cores": cores,
        "isa": runtime.isa(),
        "openmp": runtime.openmp_version(),
        "nnpar": nnpar.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The processor's name: from Linux, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
