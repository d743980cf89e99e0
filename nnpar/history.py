"""What a training run recorded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]


class History:
    """One record of numbers for each epoch.

    The trainer records ``epoch`` (from 1), ``loss``, ``accuracy``, ``validation_loss``, ``validation_accuracy``,
    ``lr``, ``seconds`` and ``images_per_second``, as far as there are such; any other name may be added.

    Parameters
    ----------
    epochs : iterable of mapping, optional
        Records to begin with, such as :attr:`epochs` of a run that is continued.

    Examples
    --------
    >>> history = History()
    >>> history.append(loss=0.5, accuracy=0.8)
    >>> history.append(loss=0.25, accuracy=0.9)
    >>> history
    History(2 epochs, the last: loss 0.25, accuracy 0.9)
    >>> history["loss"]
    [0.5, 0.25]
    """

    def __init__(self, epochs: Iterable[Mapping[str, float]] = ()) -> None:
        self._epochs: list[dict[str, float]] = []
        for values in epochs:
            self.append(**values)

    def append(self, **values: float) -> None:
        """Record an epoch.

        Parameters
        ----------
        **values : float
            By name. Without ``epoch``, it is the one after the last.

        Raises
        ------
        TypeError
            If a value is not a real number.
        """
        record: dict[str, float] = {"epoch": self._epochs[-1]["epoch"] + 1 if self._epochs else 1}
        for name, value in values.items():
            if not isinstance(value, Real):
                raise TypeError(f"History.append: {name}: expected a number, got {type(value).__name__}")
            # NumPy's numbers become Python's, which every file format can hold.
            record[name] = int(value) if isinstance(value, Integral) else float(value)
        self._epochs.append(record)

    @property
    def epochs(self) -> list[dict[str, float]]:
        """A copy of the records, the first epoch first."""
        return [dict(record) for record in self._epochs]

    @property
    def last(self) -> dict[str, float]:
        """A copy of the last epoch's record.

        Raises
        ------
        IndexError
            If there is no epoch yet.
        """
        if not self._epochs:
            raise IndexError("History.last: no epoch has been recorded yet")
        return dict(self._epochs[-1])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the learning curves, see :func:`nnpar.plots.learning_curves`.

        Parameters
        ----------
        path : path-like, optional
            File to save the picture in as well; its suffix tells the format (``.png``, ``.svg``, ``.pdf``).

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If nothing has been recorded.
        """
        from nnpar import plots

        figure = plots.learning_curves(self)
        if path is not None:
            plots.save(figure, path)
        return figure

    def __len__(self) -> int:
        return len(self._epochs)

    def __contains__(self, key: object) -> bool:
        return any(key in record for record in self._epochs)

    def __getitem__(self, key: str) -> list[float]:
        """The values of one name, one for each epoch: NaN where an epoch has none.

        Raises
        ------
        KeyError
            If no epoch has a value of this name.
        """
        if key not in self:
            names = dict.fromkeys(name for record in self._epochs for name in record)
            raise KeyError(f"History: {key!r} was not recorded; there is {', '.join(names) or 'nothing yet'}")
        return [record.get(key, math.nan) for record in self._epochs]

    def __repr__(self) -> str:
        if not self._epochs:
            return "History(0 epochs)"
        count = "1 epoch" if len(self) == 1 else f"{len(self)} epochs"
        values = ", ".join(f"{name} {value:.4g}" for name, value in self._epochs[-1].items() if name != "epoch")
        return f"History({count}, the last: {values})" if values else f"History({count})"
