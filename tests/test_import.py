"""What `import nnpar` brings along."""

import inspect
import subprocess
import sys

import pytest

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
    assert not {"nnpar.trainer", "nnpar.data", "nnpar.optimizers", "nnpar.callbacks"} & set(loaded)


def test_a_name_that_is_not_there():
    for package in (nnpar, nnpar.data):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018


def test_the_public_names_are_there_and_documented():
    assert {*nnpar.__all__} <= {*dir(nnpar)}
    assert {*nnpar.data.__all__} <= {*dir(nnpar.data)}
    for name in nnpar.__all__:
        thing = getattr(nnpar, name)
        if name != "__version__":
            assert thing.__doc__, name
    for name in ops.__all__:
        own, twin = (list(inspect.signature(getattr(module, name)).parameters) for module in (ops, reference))
        assert [parameter for parameter in own if parameter != "algorithm"] == twin, name
