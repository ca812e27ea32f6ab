"""What a position of a layer sees of the network's input."""

from __future__ import annotations

from functools import lru_cache

from export.cone import Cone
from export.cone.regions import Span, whole
from export.errors import ModelError
from export.manifest import Box
from export.network import Network
from export.passes.shapes import shape_of


class ReceptiveFields:
    """Receptive fields of a layer's positions, in pixels of the network's input; exact, computed when asked for."""

    def __init__(self, network: Network, tensor: str) -> None:
        """Raises ModelError if the network has no such tensor."""
        self._graph = network.model(1).graph
        found = next((v for node in self._graph for v in node.outputs if v.name == tensor), None)
        if found is None:
            raise ModelError(f"the network has no tensor {tensor!r}")
        self._value, self._image = found, self._graph.inputs[0]
        self._of = lru_cache(maxsize=None)(self._spans)
        self.shape = shape_of(self._value)[1:]

    def box(self, place: int) -> Box:
        """What the flat position ``place`` (row x W + column) sees; of a vector, what any component sees."""
        if len(self.shape) == 1:
            rows, columns = self._of(0)
            return Box(rows[0], columns[0], rows[1], columns[1])
        row, column = divmod(place, self.shape[2])
        rows, columns = self._axis(row, 0), self._axis(column, 1)
        return Box(rows[0], columns[0], rows[1], columns[1])

    def _axis(self, at: int, axis: int) -> Span:
        """Rows (axis 0) or columns (axis 1) that row or column ``at`` sees; the two do not depend on each other."""
        other = self.shape[2 - axis] // 2
        row, column = (at, other) if axis == 0 else (other, at)
        return self._of(row * self.shape[2] + column)[axis]

    def _spans(self, place: int) -> tuple[Span, Span]:
        region = whole(shape_of(self._value))
        if len(self.shape) == 3:
            row, column = divmod(place, self.shape[2])
            region = (*region[:2], (row, row + 1), (column, column + 1))
        needed = Cone(self._graph, self._value, region).needed(self._image)
        return needed[2], needed[3]  # (N, C, H, W)
