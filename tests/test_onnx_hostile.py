"""Damaged and hostile ONNX files: one clear error each, in bounded time and memory."""

import subprocess
import sys
from pathlib import Path


def test_hostile_files_are_refused():
    """In a process of its own, which has little memory. More of them: ``python tests/hostile_onnx.py 100000 1``."""
    script = Path(__file__).with_name("hostile_onnx.py")
    result = subprocess.run([sys.executable, script, "2000", "0"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert "refused" in result.stdout
