"""What the README says that there is, out of the code: `python tests/catalogue.py` writes it there and into
nnpar/layers/README.md; test_readme.py fails while they say something else.
"""

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import nnpar
from nnpar import layers

ROOT = Path(__file__).parents[1]
README, LAYERS = ROOT / "README.md", ROOT / "nnpar" / "layers" / "README.md"
START, END = "| | |\n| --- | --- |\n", "| data |"
# Modules of nnpar, and the base of what they offer; None for functions.
OTHERS = {
    "losses": "Loss", "optimizers": "Optimizer", "schedules": "Schedule", "callbacks": "Callback", "metrics": None,
    "initializers": None,
}  # fmt: skip
TITLES = {"initializers": "initial weights"}


def first_sentence(thing: object) -> str:
    paragraph = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip("., ").replace("|", "\\|")


def groups() -> Iterator[tuple[str, list[type]]]:
    """The exported layers by the modules that they stand in, with the modules' titles."""
    modules: dict[str, list[type]] = {}
    for name in layers.__all__:
        cls = getattr(layers, name)
        if issubclass(cls, nnpar.Layer) and cls not in (nnpar.Layer, layers.Composite):
            modules.setdefault(cls.__module__, []).append(cls)
    modules["nnpar.layers.composite"].append(nnpar.Graph)
    for module in sorted(modules, key=lambda name: inspect.getdoc(sys.modules[name]) or ""):
        title = first_sentence(sys.modules[module])
        yield title[0].lower() + title[1:], sorted(modules[module], key=lambda cls: cls.__name__)


def names_of(module: str) -> list[str]:
    found = importlib.import_module(f"nnpar.{module}")
    base = OTHERS[module] and getattr(found, OTHERS[module], None)
    things = {name: getattr(found, name) for name in found.__all__}
    if OTHERS[module]:
        return [n for n, thing in things.items() if inspect.isclass(thing) and (not base or base in thing.__mro__[1:])]
    return [n for n, thing in things.items() if inspect.isfunction(thing)]


def readme_table() -> str:
    """The rows of the README's table that the code tells."""
    rows = [("arguments", ["[of all layers](nnpar/layers/README.md)"])]
    rows += [(title, [cls.__name__ for cls in classes]) for title, classes in groups()]
    for module in OTHERS:
        if importlib.util.find_spec(f"nnpar.{module}"):
            rows.append((TITLES.get(module, module), names_of(module)))
    rows.append(("models in `nnpar.zoo`", sorted(nnpar.zoo.MODELS)))
    return START + "".join(f"| {title} | {', '.join(names)} |\n" for title, names in rows)


def signature(cls: type) -> str:
    """The arguments, without their types and without what only draws initial weights."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(cls).parameters.values()
        if not parameter.name.endswith("_init")
    ]
    return str(inspect.Signature(parameters)).replace(", *)", ")").replace("|", "\\|")


def layers_text() -> str:
    parts = ["# Layers\n\nWritten by `python tests/catalogue.py`; `help(nnpar.Conv2d)` says more.\n"]
    for title, classes in groups():
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n| | |\n| --- | --- |\n")
        parts += [f"| `{cls.__name__}{signature(cls)}` | {first_sentence(cls)} |\n" for cls in classes]
    return "".join(parts)


def main() -> None:
    text = README.read_text()
    before, _, rest = text.partition(START)
    README.write_text(before + readme_table() + rest[rest.index(END) :])
    LAYERS.write_text(layers_text())


if __name__ == "__main__":
    main()
