"""The cone pass: every tensor narrowed to what one position of the output can see."""

from export.cone.narrow import narrow, needed_region

__all__ = ["narrow", "needed_region"]
