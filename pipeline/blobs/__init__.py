"""Small files on a folder or an object store: whole, atomic, conditional, and patient when the store is away.

``open_blobs(URL)`` returns :class:`Blobs`. A backend is one module here; it needs the seven methods of
:class:`~pipeline.blobs.backend.Backend` and knows nothing of retries.
"""

from __future__ import annotations

from pipeline.blobs.backend import Backend, Entry
from pipeline.blobs.front import Blobs, open_blobs

__all__ = ["Backend", "Blobs", "Entry", "open_blobs"]
