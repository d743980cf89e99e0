"""The page about a run, as a parser and a browser see it."""

import html.parser
import re
import shutil
import subprocess

import pytest

from nnpar import runs
from nnpar.cli import main

pytest.importorskip("matplotlib")
RUN = """
[data]
train = "digits"
prepare = [{ name = "Normalize", mean = 0.3, std = 0.4 }]
[model]
name = "digits_cnn"
[optimizer]
lr = 0.003
[train]
epochs = 2
folder = "kept <&>"
"""


@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(RUN)
    assert main(["train", "run.toml", "--quiet"]) == 0
    capsys.readouterr()
    return tmp_path


class Page(html.parser.HTMLParser):
    """Headings, pictures and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.pictures, self.text, self._tag = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        if tag == "img":
            self.pictures.append(dict(attributes))

    def handle_data(self, data):
        self.text += data
        if self._tag in ("h1", "h2") and data.strip():
            self.headings.append(data)


def test_a_page_has_all_that_a_run_has(trained, capsys):
    assert main(["report", "run.toml"]) == 0
    assert "saved kept <&>/report.html" in capsys.readouterr().out
    raw = (trained / "kept <&>" / "report.html").read_text()
    page = Page(raw)
    assert page.headings == [
        "digits_cnn on digits",
        "Learning curves",
        "Confusion matrix",
        "Classes, the worst first",
        "Mistakes, the most confident first",
        "What layers make of an image",
        "Settings",
        "Layers",
        "Where the time of a step on 64 samples goes",
        "On what",
    ]
    run = runs.build({**runs.read("run.toml"), "model": {"file": "kept <&>/best.safetensors"}})
    assert f"{run.trainer.evaluate(run.validation)['accuracy']:.2%}" in page.text
    assert 'folder = "kept <&>"' in page.text
    assert "lr = 0.003" in page.text
    assert "151,306 parameters" in page.text
    assert all(picture["alt"] and picture["src"].startswith("data:image/") for picture in page.pictures)
    assert len(page.pictures) == 4
    assert not re.search(r'(src|href)="(?!data:)', raw), "nothing beside it is needed"


def test_the_matrix_counts_every_sample(trained):
    assert main(["report", "run.toml", "page.html"]) == 0
    cells = re.findall(r'<td style="[^"]*">(\d*)', (trained / "page.html").read_text())
    assert len(cells) == 100
    assert sum(int(cell or 0) for cell in cells) == 359


def test_a_page_changes_no_weight(trained):
    before = (trained / "kept <&>" / "best.safetensors").read_bytes()
    assert main(["report", "run.toml"]) == 0
    assert (trained / "kept <&>" / "best.safetensors").read_bytes() == before


def test_many_classes_are_pairs_that_are_confused():
    import numpy as np

    from nnpar.report import _confusion

    matrix = np.diag(np.full(50, 9))
    matrix[7, 3], matrix[1, 2] = 5, 2
    table = _confusion(matrix, ())
    assert "<tr><th>7<th>3<td>5<tr><th>1<th>2<td>2</table>" in table


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("kept <&>", "elsewhere"), "elsewhere"),
        (('folder = "kept <&>"', ""), "train.folder: expected the folder"),
        (('train = "digits"', 'train = "folder:photos"'), "photos"),
    ],
)
def test_what_is_missing_is_named(trained, capsys, change, told):
    (trained / "other.toml").write_text(RUN.replace(*change))
    assert main(["report", "other.toml"]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [400, 1000])
def test_a_browser_shows_it_light_and_dark(trained, width):
    image = pytest.importorskip("PIL.Image")
    assert main(["report", "run.toml", "page.html"]) == 0
    corners = []
    for scheme in (0, 1):  # dark, light
        name = f"{scheme}.png"
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options = [f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={width},2000"]
        subprocess.run([*command, *options, f"--screenshot={name}", "page.html"], check=True, capture_output=True)
        with image.open(name) as shot:
            grey = shot.convert("L")
            corners.append(grey.getpixel((2, 2)))
            assert len(grey.getcolors()) > 100, "pictures and text"
    assert corners[0] < 60
    assert corners[1] > 240
