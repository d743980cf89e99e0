"""All parameters of a model in one flat buffer, so that an optimizer goes over them in one pass."""

from __future__ import annotations

from typing import NamedTuple

from nnpar import arrays
from nnpar._checks import Array
from nnpar.layers.base import Layer
from nnpar.layers.nodes import child

ALIGNMENT = 16  # floats: each parameter starts on a cache line


class Slot(NamedTuple):
    """Where one parameter lies in a flat buffer."""

    name: str
    layer: Layer
    attribute: str
    start: int
    size: int


class FlatParameters:
    """The parameters of a model as slices of one buffer. Making it moves them there: ``layer.weight`` becomes a view.

    Attributes
    ----------
    slots : list of Slot
    values : ndarray of shape (size,), float32
        Zero between the parameters.
    """

    def __init__(self, model: Layer) -> None:
        self.slots: list[Slot] = []
        start = 0
        for node in model.nodes():
            for attribute, array in node.layer._arrays.items():
                self.slots.append(Slot(child(node.name, attribute), node.layer, attribute, start, array.size))
                start += -(-array.size // ALIGNMENT) * ALIGNMENT
        flat = model.__dict__.get("_flat")
        if flat is not None and self._lie_in(flat, start):
            self.values: Array = flat
            return
        self.values = arrays.zeros((start,))
        for slot, view in zip(self.slots, self.views(self.values), strict=True):
            view[...] = slot.layer._arrays[slot.attribute]
            slot.layer._arrays[slot.attribute] = view
        model.__dict__["_flat"] = self.values

    def _lie_in(self, flat: Array, size: int) -> bool:
        """Whether the parameters still lie where an earlier trainer put them: then both share the buffer."""
        addresses = [slot.layer._arrays[slot.attribute].ctypes.data for slot in self.slots]
        return flat.size == size and addresses == [flat.ctypes.data + 4 * slot.start for slot in self.slots]

    def views(self, buffer: Array) -> list[Array]:
        """Slices of a buffer like `values`, one for each slot, in the parameters' shapes."""
        return [
            buffer[slot.start : slot.start + slot.size].reshape(slot.layer._arrays[slot.attribute].shape)
            for slot in self.slots
        ]
