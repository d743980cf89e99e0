#!/usr/bin/env bash
# The package on 64-bit Arm, emulated by QEMU, in a Debian of that processor: built with OpenMP, kernel tests, guard pages, a
# training. PYTHON (default python3) has pip. What an emulated program starts is no Arm program to this machine: so no test
# that starts one.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
cache=${NNPAR_ISA_CACHE:-$HOME/.cache/nnpar-isa}
root=$cache/arm64
packages=$cache/arm64-packages
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache"

if [ ! -d "$root" ]; then
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,libpython3.11-dev,libgomp1,libstdc++6 bookworm \
        "$work/arm64" > "$work/log"
    for package in "$work"/arm64/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$work/arm64"; done
    mv "$work/arm64" "$root"
fi
if [ ! -d "$packages" ]; then
    # Of ONNX Runtime, 1.32 ends with a segmentation fault at import under QEMU 7.2.
    "${PYTHON:-python3}" -m pip install -q --target "$work/packages" --only-binary=:all: --python-version 3.11 \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 \
        'setuptools>=77' 'cython>=3.1' 'numpy>=2.0' safetensors tqdm pytest pytest-benchmark hypothesis scipy onnx \
        onnxruntime==1.22.1 threadpoolctl
    mv "$work/packages" "$packages"
fi

export NNPAR_NUM_THREADS=${NNPAR_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
export EMULATOR="qemu-aarch64-static -cpu cortex-a72 -L $root" # without SVE, which QEMU makes very slow
python() { $EMULATOR "$root/usr/bin/python3.11" "$@"; }

echo "== build"
mkdir "$work/source"
(cd "$source" && git ls-files -z | xargs -0 tar -c) | tar -x -C "$work/source"
cat > "$work/build.py" << 'BUILD'
"""Run setup.py; the programs that it runs itself, the probe of OpenMP, are run by the emulator."""
import os
import runpy
import subprocess
import sys

run = subprocess.run
subprocess.run = lambda command, **options: run([*os.environ["EMULATOR"].split(), *command], **options)
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
BUILD
cd "$work/source"
export PYTHONPATH="$packages"
CC=aarch64-linux-gnu-gcc CFLAGS="-I$root/usr/include/python3.11 -idirafter $root/usr/include" NNPAR_REQUIRE_OPENMP=1 \
    python "$work/build.py"

cd "$work"
tests=$work/source/tests
export PYTHONPATH="$work/source:$tests:$packages"
echo "== nnpar info"
python -m nnpar info | tee info
grep -q "instruction set  neon; built: neon, scalar" info

echo "== pytest"
python -m pytest -q -x -p no:cacheprovider "$tests"/test_{gemm,conv2d,winograd,pool2d,elementwise,optimizer_steps}.py

echo "== guard pages"
for side in end beginning; do
    python -c "import test_guard_pages; test_guard_pages.run_all('$side')"
done

echo "== training"
python -m nnpar train --epochs 1
