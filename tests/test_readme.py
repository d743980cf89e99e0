"""What the README says that there is, is there."""

import catalogue
import pytest


@pytest.mark.parametrize(
    ("path", "text"), [(catalogue.README, catalogue.readme_table()), (catalogue.LAYERS, catalogue.layers_text())]
)
def test_the_tables_are_those_of_the_code(path, text):
    assert text in path.read_text(), f"run python tests/catalogue.py, or paste into {path.name}:\n{text}"
