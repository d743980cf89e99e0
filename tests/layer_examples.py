"""A layer of each type that files can hold, made from its signature alone: new types are tested as they come."""

import inspect
import itertools

from nnpar.layers import Layer

# Tried in turn for arguments without a default.
VALUES = (4, 2, 1, (2, 2), (1, 2, 0), 0.5, "nearest", True)
# Tried for an argument in place of its default.
OTHERS = {
    bool: (True, False),
    int: (2, 3, 1, 4, -1, -2),
    float: (0.25, 0.5, 2.0),
    str: ("bilinear", "tanh", "reflect", "replicate", "same", "none"),
    tuple: ((2, 2), (1, 1), (3,)),
    type(None): (1, 2, (2, 2), 0.5, True, "same", (0, 1), (0, 1, 2)),
}


def constructor_arguments(cls: type[Layer]) -> dict[str, inspect.Parameter]:
    """Those that a file could hold: initialisers, which only draw what the file replaces, are none."""
    parameters = inspect.signature(cls).parameters
    return {name: parameter for name, parameter in parameters.items() if not name.endswith("_init")}


def example_arguments(cls: type[Layer]) -> dict[str, object]:
    """Arguments with which the layer can be made: those that it needs, and one more if these are not enough."""
    parameters = constructor_arguments(cls)
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    more = [name for name in parameters if name not in needed]
    for names in (needed, *([*needed, name] for name in more)):
        for values in itertools.product(VALUES, repeat=len(names)):
            try:
                cls(**dict(zip(names, values, strict=True)))
            except (TypeError, ValueError):
                continue
            return dict(zip(names, values, strict=True))
    raise AssertionError(f"{cls.__name__}: no example; add a value for its arguments to layer_examples.VALUES")


def variations(cls: type[Layer]) -> dict[str, list[Layer]]:
    """For each argument with a default, the layers with another value of it that can be made."""
    arguments = example_arguments(cls)
    found: dict[str, list[Layer]] = {}
    for name, parameter in constructor_arguments(cls).items():
        if parameter.default is parameter.empty:
            continue
        for value in OTHERS[type(parameter.default)]:
            if value != arguments.get(name, parameter.default):
                try:
                    layer = cls(**(arguments | {name: value}))
                except (TypeError, ValueError):
                    continue
                found.setdefault(name, []).append(layer)
    return found
