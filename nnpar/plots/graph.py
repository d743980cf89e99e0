"""A picture of a model: its layers as boxes, from the input down.

Normalisation, activations and dropout share the box of the layer before them, if nobody else reads it. A box lies a row
below the last of those it reads. The longest path goes straight down, other branches in lanes beside it, and values
that skip rows along the right side. A long model goes on in another column where a single value passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nnpar import layers
from nnpar.layers.activation import Activation
from nnpar.layers.base import Layer
from nnpar.layers.batch_norm import BatchNorm
from nnpar.layers.group_norm import GroupNormalization
from nnpar.layers.layer_norm import RowNormalization
from nnpar.layers.nodes import INPUT, Node, input_numbers, output_shapes
from nnpar.plots import figures
from nnpar.shapes import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

FOLLOWERS = (BatchNorm, GroupNormalization, RowNormalization, Activation, layers.ReLU, layers.PReLU, layers.Dropout)

# Inches.
WIDTH, LINE, PADDING, GAP = 2.4, 0.155, 0.09, 0.22
LANE, TRACK, MARGIN, BETWEEN, CORNER = 2.6, 0.16, 0.2, 0.4, 0.1
LETTERS = 32  # in a line of a box
TITLE = 30  # of them, at most, in what the layer is
TALL = 9.0  # a column, about

INK, MUTED, EDGE = figures.INK, figures.MUTED, "#8d99a5"
FILLS = {
    "convolution": "#dbe7f3", "dense": "#f6e0d9", "pooling": "#dcefe7", "merging": "#ebe4f2", "other": "#f1f3f5",
}  # fmt: skip


@dataclass(eq=False)
class Box:
    """Layers drawn in one box, or the place where a column goes on with a value of the one before.

    Attributes
    ----------
    lines : list of (str, str)
        What each layer is, and its name in the model.
    shape : str
        Of the output, for one sample.
    kind : str
        Key of its colour.
    inputs : list of Box
    row, lane : int
    continues : Box, optional
        For such a place: the box of the column before.
    """

    lines: list[tuple[str, str]]
    shape: str
    kind: str
    inputs: list[Box]
    row: int = 0
    lane: int = 0
    x: float = 0.0
    y: float = 0.0  # of the upper edge, which is positive downwards
    readers: list[Box] = field(default_factory=list)
    continues: Box | None = None

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def height(self) -> float:
        return 0.0 if not self.lines else LINE * (len(self.lines) + bool(self.shape)) + 2 * PADDING


def graph(model: Layer, input_shapes: Sequence[Shape] | None = None) -> Figure:
    """Draw a model.

    Parameters
    ----------
    model : Layer
    input_shapes : sequence of tuple of int, optional
        Of one sample, such as (C, H, W) or (F,), for each input. Without them no shapes are shown.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the model cannot take such an input.
    """
    boxes = _boxes(model.nodes(), input_shapes)
    columns = [_Column(part) for part in _cut(boxes)]
    width = sum(column.width + BETWEEN for column in columns) - BETWEEN + 2 * MARGIN
    height = max(column.height for column in columns) + 2 * MARGIN
    figure = figures.empty(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, width)
    axes.set_ylim(height, 0.0)
    left = MARGIN
    for column in columns:
        column.move(left, MARGIN)
        column.draw(axes, left - BETWEEN / 2)
        left += column.width + BETWEEN
    return figure


def _boxes(nodes: Sequence[Node], input_shapes: Sequence[Shape] | None) -> list[Box]:
    """The boxes of a model, the inputs' first, each after those that it reads."""
    shapes = None if input_shapes is None else output_shapes(nodes, [(2, *shape) for shape in input_shapes])
    readers = [number for node in nodes for number in node.inputs]
    count = 1 - min(readers) + INPUT
    starts = [
        Box([("Input", "")], "" if input_shapes is None else _sizes(input_shapes[k]), "other", []) for k in range(count)
    ]
    boxes, places = [*starts], dict(zip(input_numbers(count), starts, strict=True))
    for number, node in enumerate(nodes):
        line = (_title(node.layer), node.name)
        shape = "" if shapes is None else _sizes(shapes[number][1:])
        before = places[node.inputs[0]]
        if isinstance(node.layer, FOLLOWERS) and readers.count(node.inputs[0]) == 1 and before not in starts:
            before.lines.append(line)
            places[number] = before
            continue
        inputs = [places[source] for source in node.inputs]
        places[number] = Box([line], shape, _kind(node.layer), inputs, 1 + max(box.row for box in inputs))
        boxes.append(places[number])
    return boxes


def _title(layer: Layer) -> str:
    name = type(layer).__name__
    window = getattr(layer, "kernel_size", None)
    if window is not None:
        name += f" {_times(window)}"
        stride = layer.stride  # type: ignore[attr-defined]
        if _kind(layer) == "convolution" and max(stride) > 1:
            name += f" / {stride[0] if len(set(stride)) == 1 else _times(stride)}"
        if getattr(layer, "groups", 1) > 1:
            name += f", {layer.groups} groups"  # type: ignore[attr-defined]
    if isinstance(layer, layers.Dropout):
        name += f" {layer.p:g}"
    return name if len(name) <= TITLE else name[: TITLE - 1] + "…"


def _times(sizes: Shape) -> str:
    return "x".join(map(str, sizes))


def _kind(layer: Layer) -> str:
    name = type(layer).__name__
    if isinstance(layer, (layers.Add, layers.Concatenate)):
        return "merging"
    kinds = {"Conv": "convolution", "Pool": "pooling", "Linear": "dense"}
    return next((kind for part, kind in kinds.items() if part in name), "other")


def _sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _cut(boxes: list[Box]) -> list[list[Box]]:
    """Columns of about one height, each but the first with a place for the value that it goes on with."""
    rows: list[list[Box]] = [[] for _ in range(1 + max(box.row for box in boxes))]
    for box in boxes:
        rows[box.row].append(box)
    heights = [max(box.height for box in row) + GAP for row in rows]
    count = max(1, round(sum(heights) / TALL))
    target = sum(heights) / count
    columns: list[list[Box]] = [[]]
    filled = 0.0
    for number, row in enumerate(rows):
        if filled + heights[number] / 2 > target and sum(heights[number:]) > target / 2:
            below = [box for part in rows[number:] for box in part]
            crossing = {id(source): source for box in below for source in box.inputs if source.row < number}
            if len(crossing) == 1:
                (source,) = crossing.values()
                place = Box([], "", "other", [], row=number - 1, continues=source)
                for box in below:
                    box.inputs = [place if old is source else old for old in box.inputs]
                columns.append([place])
                filled = 0.0
        columns[-1] += row
        filled += heights[number]
    return columns


class _Column:
    """A column of boxes, laid out from its upper left corner at (0, 0)."""

    def __init__(self, boxes: list[Box]) -> None:
        self.boxes = boxes
        for box in boxes:
            box.readers = [other for other in boxes if any(source is box for source in other.inputs)]
        self._choose_lanes()
        self._choose_heights()
        self.skips = self._choose_tracks()
        left = min(box.lane for box in boxes) * LANE - WIDTH / 2
        right = max([box.lane * LANE + WIDTH / 2 for box in boxes] + [x for _, _, x in self.skips])
        self.width = right - left
        self.move(-left, 0.0)

    def move(self, right: float, down: float) -> None:
        for box in self.boxes:
            box.x += right
            box.y += down
        self.skips = [(source, box, x + right) for source, box, x in self.skips]

    def _choose_lanes(self) -> None:
        """0 for the longest path; for each other chain of boxes the nearest lane that is free all along."""
        length: dict[int, int] = {}
        for box in reversed(self.boxes):
            length[id(box)] = 1 + max((length[id(reader)] for reader in box.readers), default=0)
        main: list[Box] = [self.boxes[0]]
        while main[-1].readers:
            main.append(max(main[-1].readers, key=lambda box: length[id(box)]))
        placed = {id(box) for box in main}
        taken: dict[int, list[tuple[int, int]]] = {}
        for box in self.boxes:
            if id(box) in placed:
                continue
            chain = [box]
            while True:
                following = [other for other in chain[-1].readers if id(other) not in placed]
                if not following:
                    break
                chain.append(following[0])
            end = max([reader.row for reader in chain[-1].readers] + [chain[-1].row + 1]) - 1
            lane = next(
                lane
                for lane in (side * distance for distance in range(1, len(self.boxes) + 1) for side in (1, -1))
                if all(end < first or last < box.row for first, last in taken.get(lane, []))
            )
            taken.setdefault(lane, []).append((box.row, end))
            for link in chain:
                link.lane = lane
                placed.add(id(link))

    def _choose_heights(self) -> None:
        y = 0.0
        for row in sorted({box.row for box in self.boxes}):
            mine = [box for box in self.boxes if box.row == row]
            tallest = max(box.height for box in mine)
            for box in mine:
                box.x, box.y = box.lane * LANE, y
            y += tallest + GAP
        self.height = y - GAP

    def _choose_tracks(self) -> list[tuple[Box, Box, float]]:
        """Values that pass boxes of their own lane: from where, to where, and how far to the right; short ones within
        long ones.
        """
        pairs = [
            (source, box)
            for box in self.boxes
            for source in box.inputs
            if box.row - source.row > 1 and (source.lane == 0 or self._between(source, box, source.lane))
        ]
        taken: list[tuple[int, int, int]] = []
        skips = []
        for source, box in sorted(pairs, key=lambda pair: pair[1].row - pair[0].row):
            used = {track for first, last, track in taken if first < box.row and source.row < last}
            track = next(track for track in range(len(pairs) + 1) if track not in used)
            taken.append((source.row, box.row, track))
            lane = max(other.lane for other in self.boxes if source.row <= other.row <= box.row)
            skips.append((source, box, lane * LANE + WIDTH / 2 + TRACK * (1 + track)))
        return skips

    def _between(self, source: Box, box: Box, lane: int) -> bool:
        return any(other.lane == lane and source.row < other.row < box.row for other in self.boxes)

    def draw(self, axes: Axes, left: float) -> None:
        """The boxes, and what joins them; `left` of them is room for a line from the column before."""
        for box in self.boxes:
            _draw_box(axes, box)
            if box.continues is not None:
                last, up = box.continues, box.y - MARGIN / 2
                down = last.bottom + GAP / 2
                points = [(last.x, last.bottom), (last.x, down), (left, down), (left, up), (box.x, up), (box.x, box.y)]
                _draw(axes, _with_corners(points), head=False)
            around = {id(source) for source, reader, _ in self.skips if reader is box}
            for source in {id(source): source for source in box.inputs if id(source) not in around}.values():
                bend = max(other.bottom for other in self.boxes if other.row < box.row)
                _draw(axes, _bent(source.x, source.bottom, bend, box.x, box.y))
        for source, box, x in self.skips:
            start = (source.x + WIDTH / 2, source.bottom - PADDING) if source.lines else (source.x, source.y)
            end = (box.x + WIDTH / 2, box.y + PADDING)
            _draw(axes, _with_corners([start, (x, start[1]), (x, end[1]), end]))


def _draw_box(axes: Axes, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    if not box.lines:
        return
    left = box.x - WIDTH / 2
    axes.add_patch(
        FancyBboxPatch(
            (left, box.y), WIDTH, box.height, boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=FILLS[box.kind], edgecolor=EDGE, linewidth=0.7, zorder=2,
        )
    )  # fmt: skip
    for number, (title, name) in enumerate(box.lines):
        y = box.y + PADDING + LINE * (number + 0.5)
        weight = "bold" if number == 0 else "normal"
        style: dict[str, Any] = {"va": "center_baseline", "parse_math": False, "zorder": 3}
        axes.text(left + PADDING, y, title, fontsize=figures.SMALL, color=INK, fontweight=weight, ha="left", **style)
        room = LETTERS - len(title)
        name = name if len(name) <= room else "…" + name[1 - room :]
        axes.text(left + WIDTH - PADDING, y, name, fontsize=figures.TINY, color=MUTED, ha="right", **style)
    if box.shape:
        y = box.y + PADDING + LINE * (len(box.lines) + 0.5)
        axes.text(left + PADDING, y, box.shape, fontsize=figures.TINY, color=MUTED, ha="left", **style)


def _bent(x: float, y: float, bend: float, to_x: float, to_y: float) -> Path:
    """From (x, y) straight down to `bend`, then in a curve to another lane."""
    from matplotlib.path import Path

    middle = (bend + to_y) / 2
    vertices = [(x, y), (x, bend), (x, middle), (to_x, middle), (to_x, to_y)]
    return Path(vertices, [Path.MOVETO, Path.LINETO, *[Path.CURVE4] * 3])


def _with_corners(points: list[tuple[float, float]]) -> Path:
    """Along the points, horizontally or vertically, with round corners."""
    from matplotlib.path import Path

    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """A point near the corner, at half the way at most."""
    away = max(abs(other[0] - corner[0]), abs(other[1] - corner[1]))
    part = min(CORNER, away / 2) / away if away else 0.0
    return corner[0] + part * (other[0] - corner[0]), corner[1] + part * (other[1] - corner[1])


def _draw(axes: Axes, path: Path, head: bool = True) -> None:
    from matplotlib.patches import FancyArrowPatch

    style = "-|>,head_length=3,head_width=1.6" if head else "-"
    axes.add_patch(
        FancyArrowPatch(path=path, arrowstyle=style, color=EDGE, linewidth=0.9, shrinkA=0, shrinkB=0, zorder=1)
    )
