"""The judge: a network that had no part in making the pictures, asked what it sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from PIL import Image

from export.errors import InputError
from export.forward import Readout, compile_forward
from export.judge_network import FEATURES, squeezenet_with_card
from export.network import Network, load_network
from pipeline.forward import Forward
from pipeline.temporary import temporary_name

BATCH = 16
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """What the judge says of n pictures.

    Attributes:
        features: (n, D), of unit length.
        logits: (n, classes).
    """

    features: Floats
    logits: Floats

    def ranks(self, classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n,) place of each picture's class in the judge's order, 0 for its first choice; ties count against it."""
        own = self.logits[np.arange(len(classes)), classes][:, None]
        better = (self.logits > own).sum(axis=1)
        return np.asarray(better + (self.logits == own).sum(axis=1) - 1, np.int64)

    def probabilities(self, classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(n,) softmax probability of each picture's class."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        exponents = np.exp(shifted)
        return np.asarray(exponents[np.arange(len(classes)), classes] / exponents.sum(axis=1))


class Judge:
    """A network with a layer for features and scores as its last output."""

    def __init__(self, network: Network, features: str, threads: int = 0) -> None:
        """Args:
        network: the judge.
        features: layer whose mean over positions are the features.
        threads: 0 for all cores.

        Raises:
            InputError: the judge has no such layer, or no class scores.
        """
        self.network = network
        self._features, self._threads = network.layer(features).tensor, threads
        vectors = [layer for layer in network.layers if len(layer.shape) == 1]
        if not vectors:
            raise InputError(f"judge {network.path}: it has no vector of class scores")
        self._scores = vectors[-1]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of its classes."""
        found = self.network.labels
        return found if found and len(found) == self._scores.num_units else None

    @cached_property
    def _forward(self) -> Forward:
        readouts = [Readout("features", self._features, "mean"), Readout("logits", self._scores.tensor, "values")]
        return Forward(compile_forward(self.network, readouts, batch=BATCH), self._threads)

    def see(self, pictures: Sequence[Pixels] | Pixels) -> Verdict:
        """Judge pictures (h, w, 3) of any sizes; each is resized to the judge's input."""
        card = self.network.card.input
        parts: list[tuple[Floats, Floats]] = []
        for start in range(0, len(pictures), 4 * BATCH):
            resized = [resize(picture, card.height, card.width) for picture in pictures[start : start + 4 * BATCH]]
            found = self._forward(image=np.stack(resized))
            parts.append((np.asarray(found["features"], np.float32), np.asarray(found["logits"], np.float32)))
        if not parts:
            return Verdict(np.empty((0, 1), np.float32), np.empty((0, self._scores.num_units), np.float32))
        features, logits = (np.concatenate(values) for values in zip(*parts, strict=True))
        return Verdict(unit_length(features), logits)

    def classes_of(self, labels: Sequence[str]) -> dict[int, int]:
        """Index of a class of the network -> index of the judge's class of the same name."""
        own = self.labels
        if own is None:
            raise InputError(f"judge {self.network.path}: its classes have no names; give it a card with labels")
        place = {name: index for index, name in enumerate(own)}
        same = {index for index, (a, b) in enumerate(zip(own, labels, strict=False)) if a == b}  # two are called crane
        return {i: i if i in same else place[name] for i, name in enumerate(labels) if name in place}


def resize(picture: Pixels, height: int, width: int) -> Pixels:
    """Bilinear; a part of a picture is stretched to fill the input."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def unit_length(rows: npt.NDArray[Any]) -> Floats:
    """Rows divided by their norms; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), np.float32)


def open_judge(source: Path, features: str | None, cache: Path, threads: int = 0) -> Judge:
    """Open a judge: SqueezeNet v1.0's weights (``.npz``), or an ``.onnx`` network and its layer for features.

    Raises:
        InputError: it cannot be read, or an ``.onnx`` judge comes without a layer.
    """
    if source.suffix == ".npz":
        model = squeezenet_with_card(source)
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / "squeezenet1_0.onnx"
        part = path.with_name(temporary_name(path.name))
        onnx.save(model, str(part))
        part.replace(path)
        return Judge(load_network(path), features or FEATURES, threads)
    if features is None:
        raise InputError(f"judge {source}: say which of its layers gives features, with --judge-layer")
    return Judge(load_network(source), features, threads)
