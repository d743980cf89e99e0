"""What `import nnpar` brings along."""

import inspect
import subprocess
import sys

import nnpar
from nnpar import ops, reference

HEAVY = [
    *("tqdm", "safetensors", "matplotlib", "importlib.metadata", "multiprocessing", "concurrent", "unittest", "http"),
    *("hashlib", "tomllib"),
]


def test_import_brings_numpy_and_little_more():
    program = "import sys, numpy; before = set(sys.modules); import nnpar; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    extra = [name for name in loaded if not name.startswith("nnpar")]
    assert not {name.split(".")[0] for name in extra} & set(HEAVY), extra
    assert len(extra) < 40, extra


def test_the_public_names_are_there_and_documented():
    for name in nnpar.__all__:
        thing = getattr(nnpar, name)
        if name != "__version__":
            assert thing.__doc__, name
    for name in ops.__all__:
        own, twin = (list(inspect.signature(getattr(module, name)).parameters) for module in (ops, reference))
        assert [parameter for parameter in own if parameter != "algorithm"] == twin, name
