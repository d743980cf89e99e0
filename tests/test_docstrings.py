"""Every public name says what it is, what it takes, gives and raises."""

import importlib
import inspect
import pkgutil

import pytest

import nnpar

MODULES = [nnpar] + [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(nnpar.__path__, "nnpar.")
    if not module.name.startswith("nnpar._kernels") and module.name != "nnpar.__main__"
]
PUBLIC = {
    f"{thing.__module__}.{name}": thing
    for module in MODULES
    for name in getattr(module, "__all__", ())
    for thing in [getattr(module, name)]
    if inspect.isclass(thing) or inspect.isfunction(thing)
}


BASES = (nnpar.Layer, nnpar.layers.Composite, nnpar.CustomLayer, nnpar.losses.Loss, nnpar.optimizers.Optimizer)


def sections(doc: str) -> dict[str, str]:
    """The text under each underlined title of a docstring."""
    found, title = {}, ""
    lines = inspect.cleandoc(doc).splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line and following and set(following) == {"-"}:
            title = line
        found[title] = found.get(title, "") + line + "\n"
    return found


def arguments(thing) -> set[str]:
    """Names of what it is called with."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    if not inspect.isfunction(function):
        return set()
    parameters = inspect.signature(function).parameters.values()
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {stars.get(parameter.kind, "") + parameter.name for parameter in parameters} - {"self"}


def documented(text: str) -> set[str]:
    """Names before the colon in lines without indentation."""
    heads = [line.partition(" : ")[0] for line in text.splitlines() if line and not line.startswith(" ")]
    return {name.strip() for head in heads for name in head.split(",")}


def test_there_are_public_names():
    assert len(PUBLIC) > 60


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name):
    thing = PUBLIC[name]
    found, wanted = sections(thing.__doc__ or ""), arguments(thing)
    assert found.get("", "").strip(), "expected a docstring"
    if thing in BASES:
        return
    if ", see :func:" in found[""]:  # the same arguments as another function
        return
    given = documented(found.get("Parameters", "") + found.get("Attributes", ""))
    assert wanted <= given, f"expected all parameters, these are missing: {wanted - given}"
    if inspect.isfunction(thing) and wanted:
        annotation = inspect.signature(thing).return_annotation
        assert annotation == "None" or {"Returns", "Yields"} & set(found), "expected what it returns"
    if inspect.isclass(thing) and issubclass(thing, nnpar.Layer):
        assert "Examples" in found, "expected an example"
        assert "Raises" in found or not wanted, "expected the errors"


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if inspect.isclass(thing)])
def test_public_methods_and_properties_have_docstrings(name):
    for attribute in (a for a in dir(PUBLIC[name]) if not a.startswith("_")):
        thing = inspect.getattr_static(PUBLIC[name], attribute)
        if inspect.isfunction(thing) or isinstance(thing, property):
            assert inspect.getdoc(getattr(PUBLIC[name], attribute)), attribute
