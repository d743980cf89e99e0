#!/usr/bin/env bash
# The harness with SSE2 on a processor without AVX, and with NEON, both emulated by QEMU.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

CC=x86_64-linux-gnu-gcc python3 "$here/compile.py" x86_64 "$work/x86_64"
CC=aarch64-linux-gnu-gcc python3 "$here/compile.py" aarch64 "$work/aarch64"

echo "== Nehalem"
qemu-x86_64-static -cpu Nehalem "$work/x86_64" sse2 scalar
echo "== 64-bit Arm"
qemu-aarch64-static "$work/aarch64" neon scalar
