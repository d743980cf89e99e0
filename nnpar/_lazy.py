"""Names of a package that are imported when they are asked for, as PEP 562 has it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package : str
    modules : mapping of str to str
        In which of its modules each name is; in none, if the name is a module's.
    """
    space = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{modules[name] or name}")
        space[name] = value = getattr(module, name) if modules[name] else module
        return value

    return get, lambda: sorted({*space, *modules})
