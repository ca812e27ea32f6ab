"""The cone pass: every tensor narrowed to what one position of the output can see."""

from export.cone.narrow import Cone

__all__ = ["Cone"]
