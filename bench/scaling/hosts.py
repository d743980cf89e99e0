"""Where ranks run: on this machine, or on two hosts that are network namespaces, joined by a link of a stated speed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
MPIEXEC = Path(sys.executable).with_name("mpiexec")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
Host = list[str]  # the words before a command that runs there


def environment(threads: int) -> dict[str, str]:
    """With so many threads for each rank."""
    return {**os.environ, "NNPAR_NUM_THREADS": str(threads)}


def here(ranks: int, threads: int, *arguments: Any, timeout: float = 300.0) -> dict[str, Any]:
    """What the worker says, with so many ranks on this machine."""
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(WORKER), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(threads))
    return said(result.returncode, result.stdout, result.stderr)


def said(status: int, output: str, errors: str = "") -> dict[str, Any]:
    """The worker's last line."""
    if status or not output.strip():
        raise RuntimeError(f"the worker ended with status {status}: {(output + errors)[-2000:]}")
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


@contextmanager
def two_hosts(rate: str) -> Iterator[tuple[Host, Host]]:
    """Two namespaces and a link between them, such as of "1gbit"; needs root, ip and tc (iproute2)."""
    keepers = [
        subprocess.Popen(["unshare", "-nm", "sh", "-c", "mount -t sysfs none /sys; exec sleep 3600"]) for _ in range(2)
    ]
    time.sleep(0.5)
    hosts = [["nsenter", "-t", str(keeper.pid), "-n", "-m"] for keeper in keepers]
    first, second = hosts
    try:
        run(first, "ip link add v0 type veth peer name v1")
        run(first, f"ip link set v1 netns {keepers[1].pid}")
        for host, device, address in ((first, "v0", ADDRESSES[0]), (second, "v1", ADDRESSES[1])):
            run(host, f"ip addr add {address}/24 dev {device}")
            run(host, "ip link set lo up")
            run(host, f"ip link set {device} up")
            run(host, f"tc qdisc add dev {device} root tbf rate {rate} burst 256kb latency 50ms")
        yield first, second
    finally:
        for keeper in keepers:
            keeper.kill()
            keeper.wait()


def run(host: Host, command: str) -> None:
    """Run it there."""
    subprocess.run([*host, *shlex.split(command)], check=True, capture_output=True)


def across(hosts: tuple[Host, Host], threads: int, *arguments: Any) -> dict[str, Any]:
    """What the worker says, with one rank on each host: mpiexec prints what each of them has to start."""
    command = [str(MPIEXEC), "-launcher", "manual", "-hosts", ",".join(ADDRESSES), "-iface", "v0", "-n", "2"]
    command += [sys.executable, str(WORKER), *map(str, arguments)]
    over_tcp = environment(threads) | {"UCX_TLS": "tcp"}  # not by the memory that the two hosts share after all
    launcher = subprocess.Popen(
        hosts[0] + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=over_tcp
    )
    proxies: list[subprocess.Popen[bytes]] = []
    output = []
    assert launcher.stdout is not None
    for line in launcher.stdout:
        if line.startswith("HYDRA_LAUNCH: "):
            words = shlex.split(line.removeprefix("HYDRA_LAUNCH: "))
            if proxies:  # the other end of the link
                words = ["v1" if word == "v0" else word for word in words]
            proxies.append(subprocess.Popen(hosts[len(proxies)] + words, env=over_tcp))
        elif not line.startswith("HYDRA_LAUNCH_END"):
            output.append(line)
    status = launcher.wait(60)
    for proxy in proxies:
        proxy.wait(60)
    return said(status, "".join(output))
