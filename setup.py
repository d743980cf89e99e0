"""Builds csrc once per instruction set and the Cython extensions of nnpar/_kernels; all else stands in pyproject.toml.

NNPAR_REQUIRE_OPENMP=1 turns a build without OpenMP, which runs on one thread, into an error.
"""

import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# -ffp-contract=off: what is fused is written so; the compiler shall not choose. No -ffast-math: it changes the
# floating-point mode of the whole process. Nothing unwinds the stack here, and the tables are 5% of the wheel.
C_FLAGS = [
    "-O3",
    "-g0",
    "-std=c11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
]
CYTHON_FLAGS = ["-O2", "-g0", "-fvisibility=hidden", "-fno-asynchronous-unwind-tables"]
# Modules that hand out tiles, and touch no element themselves: as fast, and 4% of the wheel less.
SMALL = {"runtime", "step", "gemm", "conv", "conv_weight_grad", "framed", "winograd", "planar", "scatter", "pool"}
LINK_FLAGS = ["-Wl,-s"] if sys.platform == "linux" else []  # no symbol table: 5% of the wheel
ISA_FLAGS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    # Small, since few processors need it; convolutions lose up to a tenth of their speed by it.
    "sse2": ["-Os", "-ftree-vectorize"],
    "neon": [],
    # GCC 12 vectorises outer_tile with a load of the next row of B, which may lie beyond its end.
    "scalar": ["-fno-tree-vectorize"],
}
FAMILIES = {"x86_64": ["avx512", "avx2", "sse2", "scalar"], "aarch64": ["neon", "scalar"]}
OPENMP_FLAGS = {"linux": (["-fopenmp"], ["-fopenmp"]), "darwin": (["-Xpreprocessor", "-fopenmp"], ["-lomp"])}
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
CSRC = sorted(str(path) for path in Path("csrc").rglob("*.[ch]"))
DECLARATIONS = ["csrc/kernels.h", "nnpar/_kernels/openmp.h"]
MODULES = [
    "runtime",
    "step",
    "gemm",
    "conv",
    "conv_weight_grad",
    "framed",
    "winograd",
    "planar",
    "scatter",
    "depthwise",
    "pool",
    "resample",
    "activation",
    "batch_norm",
    "norm",
    "tokens",
    "elementwise",
    "strided",
    "warp",
    "loss",
    "optimizer",
]


def processor() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


class BuildExt(build_ext):
    """Probes OpenMP, compiles each instruction set with its own flags, and links them into the runtime module."""

    def build_extensions(self) -> None:
        compile_flags, link_flags = self.openmp_flags()
        self.parallel = self.parallel or os.cpu_count()
        kernels = self.compile_kernels()
        for extension in self.extensions:
            small = ["-Os"] if extension.name.rpartition(".")[2] in SMALL else []
            extension.extra_compile_args = CYTHON_FLAGS + small + compile_flags
            extension.extra_link_args = link_flags + LINK_FLAGS
            if extension.name.endswith(".runtime"):
                extension.extra_objects = kernels
        super().build_extensions()

    def compile_kernels(self) -> list[str]:
        """csrc/find.c for the baseline and csrc/isa/*.c, each with its own flags."""
        sources = [("csrc/find.c", [])]
        family = FAMILIES.get(processor(), ["scalar"])
        # Beside others, plain C is there to be compared with: small rather than fast.
        small = {"scalar": ["-Os"]} if len(family) > 1 else {}
        sources += [(f"csrc/isa/{isa}.c", ISA_FLAGS[isa] + small.get(isa, [])) for isa in family]

        def compile_one(source: str, flags: list[str]) -> list[str]:
            arguments = [*C_FLAGS, "-fPIC", *flags]
            return self.compiler.compile([source], self.build_temp, depends=CSRC, extra_postargs=arguments)

        with ThreadPoolExecutor(self.parallel) as pool:
            return [built for objects in pool.map(compile_one, *zip(*sources, strict=True)) for built in objects]

    def openmp_flags(self) -> tuple[list[str], list[str]]:
        """Compile and link flags of an OpenMP that compiles, links and runs; two empty lists if there is none."""
        flags = OPENMP_FLAGS.get(sys.platform, OPENMP_FLAGS["linux"])
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(OPENMP_PROBE)
            try:
                objects = self.compiler.compile([str(source)], folder, extra_postargs=flags[0])
                self.compiler.link_executable(objects, "probe", folder, extra_postargs=flags[1])
                subprocess.run([str(Path(folder, "probe"))], check=True)
                return flags
            except Exception as error:
                if os.environ.get("NNPAR_REQUIRE_OPENMP") == "1":
                    raise SystemExit(f"nnpar: OpenMP is required, and does not work: {error}") from error
                print(f"WARNING: nnpar: no working OpenMP ({error}); it will run on one thread", file=sys.stderr)
                return [], []


setup(
    ext_modules=cythonize(
        [
            Extension(
                f"nnpar._kernels.{name}",
                [f"nnpar/_kernels/{name}.pyx"],
                include_dirs=["csrc", "nnpar/_kernels"],
                # The kernels are linked into one module; the others know their declarations only.
                depends=[*([*CSRC, *DECLARATIONS] if name == "runtime" else DECLARATIONS), "setup.py"],
            )
            for name in MODULES
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "auto_pickle": False,  # steps point at memory; methods that say so for each are 5% of the wheel
        },
    ),
    cmdclass={"build_ext": BuildExt},
)
