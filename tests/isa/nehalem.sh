#!/usr/bin/env bash
# The package on a processor without AVX, emulated by QEMU: kernel tests, guard pages, a training. PYTHON (default python3)
# has nnpar and its test extra. What an emulated program starts would run on the real processor: so no test that does.
set -euo pipefail
tests=$(cd "$(dirname "$0")/.." && pwd)
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export NNPAR_NUM_THREADS=${NNPAR_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=1
emulated() { qemu-x86_64-static -cpu Nehalem "$@"; }

echo "== one AVX instruction: illegal"
echo 'int main(void) { __asm__ volatile("vxorps %ymm0, %ymm0, %ymm0"); return 0; }' > "$work/avx.c"
cc -static "$work/avx.c" -o "$work/avx"
status=0
emulated "$work/avx" 2> "$work/log" || status=$?
test "$status" -eq 132 # SIGILL

cd "$work"
echo "== nnpar info"
emulated "$python" -m nnpar info | tee info
grep -q "instruction set  sse2; built: avx512 (not on this machine), avx2 (not on this machine)" info

echo "== pytest"
emulated "$python" -m pytest -q -x -p no:cacheprovider "$tests"/test_{gemm,conv2d,winograd,pool2d,elementwise,optimizer_steps}.py

echo "== guard pages"
for side in end beginning; do
    PYTHONPATH="$tests:${PYTHONPATH:-}" emulated "$python" -c "import test_guard_pages; test_guard_pages.run_all('$side')"
done

echo "== training"
emulated "$python" -m nnpar train --epochs 1
