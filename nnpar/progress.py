"""What a person sees while a model trains: a bar in a terminal or notebook, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
from typing import Any

NO_SCORES = ("epoch", "lr", "seconds", "images_per_second")  # what else an epoch's record holds


class Progress:
    """Progress of one epoch: images done, images per second, time left, loss and accuracy so far.

    Parameters
    ----------
    title : str
    total : int
        Images of the epoch.
    show : bool
    """

    def __init__(self, title: str, total: int, show: bool) -> None:
        self._title = title
        self._show = show
        self._bar: Any = None
        self._summary = ""
        if show and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=total, desc=title, unit=" images", unit_scale=True, mininterval=0.1, dynamic_ncols=True
            )

    def __enter__(self) -> Progress:
        return self

    def update(self, images: int, values: dict[str, float]) -> None:
        """`images` more are done; `values` are the means so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(readable(values), refresh=False)
            self._bar.update(images)

    def finish(self, values: dict[str, float], images_per_second: float) -> None:
        """The epoch's values, of training and validation."""
        self._summary = f"{self._title}: {readable(values)}, {images_per_second:,.0f} images/s"
        if self._bar is not None:
            self._bar.set_postfix_str(readable(values))

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._show and self._summary:
            print(self._summary, flush=True)


def readable(values: dict[str, float]) -> str:
    """Values as a person reads them, such as ``loss 0.0512, accuracy 98.20%, validation accuracy 97.90%``."""
    parts = []
    for key, value in values.items():
        number = f"{value:.2%}" if key.endswith("accuracy") else f"{value:.4f}"
        parts.append(f"{key.replace('_', ' ')} {number}")
    return ", ".join(parts)
