"""Training on several ranks, measured on one machine and on two hosts in network namespaces, and predicted for more:
``python bench/scaling --output bench/results/scaling_mpi``; see bench/README.md. Needs the extras `mpi` and `plot`,
mpiexec beside the interpreter (``pip install mpich``), and for the hosts root, ip and tc.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import hosts
import model

import nnpar
from nnpar._kernels import runtime
from nnpar.distributed.buckets import BUCKET_MB
from nnpar.plots import figures

NETWORKS = ("vgg_small", "resnet20")
SAMPLES = 64  # of a rank
# Samples a rank, with which messages at 1 Gbit/s take about as long as the backward pass, and fewer and more.
OVERLAPPED = {"vgg_small": (28, 36, 44), "mnist_cnn": (192, 256, 320)}
WHOLE_MB = 1e6
RATES = ("1gbit", "10gbit")
PREDICTED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def main() -> None:
    """Measure all, and write JSON, a table and a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("scaling_mpi"), help="of .json, .md and .png")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "networks": {}}
    for name in NETWORKS:
        results["networks"][name] = measure(name, options.rounds, options.steps)
    results["overlap"] = overlap(options.rounds, options.steps) if shutil.which("tc") else []
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(table(results))
    draw(results, options.output.with_suffix(".png"))
    print(table(results))


def machine() -> dict[str, str]:
    """On what, with which versions, and when."""
    from mpi4py import MPI

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{names[0] if names else platform.machine()}, {len(names)} cores",
        "nnpar": f"{nnpar.__version__} ({runtime.isa()})",
        "mpi": " ".join(MPI.Get_library_version().splitlines()[0].replace("Version:", "").split()),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
    }


def measure(name: str, rounds: int, steps: int) -> dict[str, Any]:
    """Each way in turn, round after round; of each the round with the median of the medians."""
    ways: dict[str, Any] = {
        "1 rank x 2 threads, 128 samples": lambda: hosts.here(1, 2, name, 2 * SAMPLES, BUCKET_MB, steps),
        "2 ranks x 1 thread, 128 samples": lambda: hosts.here(2, 1, name, SAMPLES, BUCKET_MB, steps),
        "1 rank x 1 thread, 64 samples": lambda: hosts.here(1, 1, name, SAMPLES, BUCKET_MB, steps),
    }
    found = in_turn(ways, rounds)
    for rate in RATES if shutil.which("tc") else ():
        with hosts.two_hosts(rate) as pair:
            ways = {
                f"2 hosts at {rate}, buckets": lambda pair=pair: hosts.across(pair, 1, name, SAMPLES, BUCKET_MB, steps),
                f"2 hosts at {rate}, after": lambda pair=pair: hosts.across(pair, 1, name, SAMPLES, WHOLE_MB, steps),
            }
            found |= in_turn(ways, rounds)
    return found


def overlap(rounds: int, steps: int) -> list[dict[str, Any]]:
    """Two hosts at 1 Gbit/s: gradients in buckets, and all after the backward pass."""
    found = []
    with hosts.two_hosts("1gbit") as pair:
        for name, samples in ((name, samples) for name, counts in OVERLAPPED.items() for samples in counts):
            ways = {
                "buckets": partial(hosts.across, pair, 1, name, samples, BUCKET_MB, steps),
                "after": partial(hosts.across, pair, 1, name, samples, WHOLE_MB, steps),
            }
            found.append({"network": name, "samples": samples, **in_turn(ways, rounds)})
    return found


def in_turn(ways: dict[str, Any], rounds: int) -> dict[str, Any]:
    """The results by name, with the seconds of a step: the median over rounds of a round's median."""
    every: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            every[way].append(run())
    found = {}
    for way, runs in every.items():
        runs.sort(key=lambda run: statistics.median(run["seconds"]))
        middle = runs[len(runs) // 2]
        found[way] = {**middle, "step": statistics.median(middle["seconds"])}
    return found


def predictions(found: dict[str, Any], rate: str) -> list[tuple[int, float]]:
    """Seconds of a step by the number of ranks, of one thread and 64 samples each; as measured of one, and of more with
    a pass as long as that of two ranks that share this machine's memory.
    """
    alone, two = found["1 rank x 1 thread, 64 samples"], found[f"2 hosts at {rate}, buckets"]
    network, rest = model.fitted(two["allreduce"]), alone["step"] - alone["ready"][-1]
    return [(1, alone["step"])] + [
        (p, model.step_seconds(network, p, two["ready"], two["bucket_bytes"], rest)) for p in PREDICTED[1:]
    ]


def table(results: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = [", ".join(f"{key} {value}" for key, value in results["machine"].items()), ""]
    if results["overlap"]:
        lines += ["## Two hosts at 1 Gbit/s, ms a step", "", "| network | samples a rank | after | buckets | shorter |"]
        lines.append("| --- | --- | --- | --- | --- |")
    for found in results["overlap"]:
        after, buckets = found["after"]["step"], found["buckets"]["step"]
        lines.append(
            f"| {found['network']} | {found['samples']} | {1e3 * after:.1f} | {1e3 * buckets:.1f} "
            f"| {1 - buckets / after:.1%} |"
        )
    lines.append("")
    for name, found in results["networks"].items():
        lines += [f"## {name}", "", "| measured | ms a step | images/s |", "| --- | --- | --- |"]
        lines += [
            f"| {way} | {1e3 * run['step']:.1f} | {run['samples'] / run['step']:,.0f} |" for way, run in found.items()
        ]
        lines.append("")
        for rate in RATES:
            if f"2 hosts at {rate}, buckets" not in found:
                continue
            two = found[f"2 hosts at {rate}, buckets"]
            network = model.fitted(two["allreduce"])
            sizes = ", ".join(f"{size / 1e6:.1f}" for size in two["bucket_bytes"])
            lines += [
                f"Predicted at {rate} (latency {1e6 * network.latency:.0f} us, {network.bandwidth / 1e6:.0f} MB/s, "
                f"buckets of {sizes} MB), 64 samples a rank:",
                "",
                "| ranks | ms a step | images/s | efficiency |",
                "| --- | --- | --- | --- |",
            ]
            predicted = predictions(found, rate)
            lines += [
                f"| {p} | {1e3 * seconds:.1f} | {p * SAMPLES / seconds:,.0f} | {predicted[0][1] / seconds:.0%} |"
                for p, seconds in predicted
            ]
            lines.append("")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Images a second by ranks: predictions as lines, measurements as points over them."""
    networks = results["networks"]
    figure = figures.empty(4.2 * len(networks), 3.6)
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, (name, found) in zip(panels, networks.items(), strict=True):
        figures.style(axes, name, "ranks of one thread, 64 images each", "images/s")
        alone = found["1 rank x 1 thread, 64 samples"]
        axes.plot(
            PREDICTED, [p * SAMPLES / alone["step"] for p in PREDICTED], color=figures.PALE, linewidth=4, label="ideal"
        )
        for rate, colour in zip(RATES, figures.COLOURS, strict=False):
            two = found.get(f"2 hosts at {rate}, buckets")
            if two is None:
                continue
            predicted = predictions(found, rate)
            axes.plot(
                *zip(*((p, p * SAMPLES / seconds) for p, seconds in predicted), strict=True),
                "--", color=colour, label=f"{rate}, predicted",
            )  # fmt: skip
            axes.plot(2, two["samples"] / two["step"], "o", color=colour, label=f"{rate}, measured")
        axes.plot(1, SAMPLES / alone["step"], "s", color=figures.INK, label="one rank, measured")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(PREDICTED[::2], [str(p) for p in PREDICTED[::2]])
        axes.legend(fontsize=figures.TINY, frameon=False)
    figures.title(figure, "Predicted from two ranks; only the points were measured")
    figure.savefig(path)


if __name__ == "__main__":
    main()
