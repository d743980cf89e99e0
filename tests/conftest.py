"""What all tests share."""

import pytest


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Programs that tests start import the installed package, not the source tree that lies in the current folder."""
    monkeypatch.chdir(tmp_path)
