"""One measurement in a process of its own, of nnpar or of PyTorch, by a script that is both ends of it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import environment


def add_environment(parser: argparse.ArgumentParser) -> None:
    """The option that says where PyTorch is installed, as for ``bench/peers``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--environment",
        type=Path,
        default=cache / "nnpar-bench" / "peers",
        help="folder of the peers' virtual environment (default %(default)s)",
    )


def pythons(folder: Path) -> dict[str, Path]:
    """The interpreter that has each library, the peers' environment made if it is not there."""
    peers, missing = environment.install(folder)
    if any(requirement.startswith("torch") for requirement in missing):
        sys.exit(f"PyTorch cannot be installed: {missing}")
    return {"nnpar": Path(sys.executable), "torch": peers, "torch-channels-last": peers}


def measure(python: Path, script: str, library: str, threads: int, **request: Any) -> Any:
    """What the script's ``measured`` returns in a new process with so many threads."""
    variables = {**os.environ, "NNPAR_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    if python != Path(sys.executable):
        variables.pop("PYTHONPATH", None)  # it is of another environment
    words = [str(python), script, "--measured", json.dumps({"library": library, **request})]
    text = subprocess.run(words, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(text.splitlines()[-1])


def answer(measured: Any) -> bool:
    """In the new process: print what `measured` returns, and True."""
    if len(sys.argv) != 3 or sys.argv[1] != "--measured":
        return False
    print(json.dumps(measured(**json.loads(sys.argv[2]))))
    return True
