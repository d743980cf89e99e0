"""The examples of all docstrings, of the package as it is installed."""

import doctest
import importlib
import pkgutil

import pytest

import nnpar
from nnpar import random

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(nnpar.__path__, "nnpar.")
    if not module.name.startswith("nnpar._kernels") and module.name != "nnpar.__main__"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with random.seeded(0):  # as in a new interpreter
        failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) > 20
