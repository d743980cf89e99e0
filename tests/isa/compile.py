"""Compile the harness, with the kernels of one processor family, into a program.

python compile.py x86_64|aarch64 PROGRAM; the environment's CC is the compiler, LDFLAGS are -static unless set: emulated
machines have no shared libraries. Flags of the kernels are those of setup.py.
"""

import ast
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLAGS = ["-O2", "-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]


def setup_constants():
    """The names that setup.py sets to literals."""
    values = {}
    for statement in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(statement, ast.Assign):
            try:
                values[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:  # not a literal
                continue
    return values


def main(processor, program):
    setup = setup_constants()
    compiler = shlex.split(os.environ.get("CC", "cc"))
    units = [(ROOT / "csrc/find.c", setup["C_FLAGS"])]
    for isa in setup["FAMILIES"][processor]:
        units.append((ROOT / f"csrc/isa/{isa}.c", setup["C_FLAGS"] + setup["ISA_FLAGS"][isa]))
    units += [(source, FLAGS) for source in sorted(HERE.glob("*.c"))]
    with tempfile.TemporaryDirectory() as folder:

        def compiled(unit):
            source, flags = unit
            target = str(Path(folder, source.stem + ".o"))
            subprocess.run([*compiler, *flags, f"-I{ROOT / 'csrc'}", "-c", source, "-o", target], check=True)
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, units))
        link_flags = shlex.split(os.environ.get("LDFLAGS", "-static"))
        subprocess.run([*compiler, *link_flags, *objects, "-lm", "-o", program], check=True)


main(*sys.argv[1:])
