"""What a study may read: finished results, the dataset pass, the judge, further picture sets. Opened when asked for."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.errors import AtlasError, InputError
from export.manifest import Box
from export.network import LayerInfo, load_network
from pipeline.config import load_config
from pipeline.dataset.images import ImageSet, open_images
from pipeline.dataset.result import DatasetResult, may_publish
from pipeline.plan import LayerPlan, Plan, make_plan
from pipeline.records import Record, best_of
from pipeline.studies.base.judge import Judge, open_judge
from pipeline.studies.base.study import MissingInput, Need
from pipeline.workspace import CACHE, Workspace, open_workspace

DATASET = "dataset"
STUDIES = "studies"
Pixels = npt.NDArray[np.uint8]

_ASK: dict[Need, str] = {
    "dataset": "it needs a data set of pictures; give one with --images, or as dataset.images",
    "judge": "it needs a judge network; give one with --judge, or as studies.judge",
    "training": "it needs the generator's training pictures; give them with --training",
    "held_out": "it needs pictures the generator was not trained on; give them with --held-out",
    "compare": "it needs other atlases to compare with; give their configurations with --compare",
    "checkpoints": "it needs the network at two or more stages of its training; give .onnx files with --checkpoint",
}


@dataclass(frozen=True)
class Inputs:
    """What was given to the studies besides the atlas.

    Attributes:
        images: the data set of the dataset pass.
        publish: patterns of its paths whose pixels may be published.
        judge: see :func:`pipeline.studies.base.judge.open_judge`.
        judge_layer: likewise.
        training: pictures the generator was trained on.
        held_out: pictures like them that it was not trained on.
        compare: configurations of other atlases, each with the folder in which it was built.
        checkpoints: ``.onnx`` files of the network at stages of its training, first to last.
        classes: which class a folder of the data set means, see :class:`pipeline.studies.base.classes.Classes`.
    """

    images: Path | None = None
    publish: tuple[str, ...] = ()
    judge: Path | None = None
    judge_layer: str | None = None
    training: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    compare: tuple[tuple[Path, Path], ...] = ()
    checkpoints: tuple[Path, ...] = ()
    classes: Path | None = None


@dataclass(frozen=True)
class LayerResults:
    """A layer's finished results.

    Attributes:
        info: what the network says of it.
        title: to be read by people.
        labels: names of its units.
        records: unit -> records, one per seed, ascending.
        receptive_field: what the units see, in pixels of the generator's image; may reach beyond it.
        image_px: side of the generator's image.
    """

    info: LayerInfo
    title: str
    labels: tuple[str, ...] | None
    records: dict[int, tuple[Record, ...]]
    receptive_field: Box
    image_px: int

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def alive(self) -> dict[int, Record]:
        """unit -> its best record of those that are not dead; units without one are left out."""
        best = {unit: best_of(records, self.name) for unit, records in self.records.items()}
        return {unit: record for unit, record in best.items() if record is not None}

    @property
    def seen(self) -> Box:
        """The receptive field within the generator's image."""
        box, side = self.receptive_field, self.image_px
        return Box(max(0, box.top), max(0, box.left), min(side, box.bottom), min(side, box.right))

    @property
    def sees_everything(self) -> bool:
        return self.seen == Box(0, 0, self.image_px, self.image_px)


class Context:
    """Everything studies read."""

    def __init__(self, workspace: Workspace, plan: Plan, inputs: Inputs) -> None:
        """Raises AtlasError if jobs of the plan are missing from the store."""
        if plan.num_todo:
            raise AtlasError(f"{plan.num_todo} of {plan.num_jobs} jobs are not in the store; build the atlas first")
        self.workspace, self.plan, self.inputs = workspace, plan, inputs

    @property
    def names(self) -> tuple[str, ...]:
        """The layers, early to late."""
        return tuple(layer.info.name for layer in self.plan.layers)

    def layers(self) -> Iterator[LayerResults]:
        """Results layer by layer; one layer is held at a time."""
        return (self._results(layer) for layer in self.plan.layers)

    def layer(self, name: str) -> LayerResults:
        """Results of one layer."""
        return self._results(next(layer for layer in self.plan.layers if layer.info.name == name))

    @cached_property
    def images(self) -> ImageSet:
        """The data set.

        Raises:
            MissingInput: none was given.
        """
        if self.inputs.images is None:
            raise MissingInput(_ASK["dataset"])
        return open_images(self.inputs.images)

    @cached_property
    def dataset(self) -> DatasetResult:
        """The dataset pass.

        Raises:
            InputError: there is none of this data set and network.
        """
        return DatasetResult(self.workspace.out / DATASET, self.workspace.network, self.images)

    @cached_property
    def judge(self) -> Judge:
        """The judge.

        Raises:
            MissingInput: none was given.
        """
        if self.inputs.judge is None:
            raise MissingInput(_ASK["judge"])
        return open_judge(self.inputs.judge, self.inputs.judge_layer, CACHE, self.workspace.config.run.threads)

    @cached_property
    def training(self) -> tuple[ImageSet, ...]:
        """What the generator was trained on.

        Raises:
            MissingInput: nothing was given.
        """
        if not self.inputs.training:
            raise MissingInput(_ASK["training"])
        return tuple(open_images(path) for path in self.inputs.training)

    @cached_property
    def held_out(self) -> tuple[ImageSet, ...]:
        """Pictures like the training pictures that the generator has not seen.

        Raises:
            MissingInput: nothing was given.
        """
        if not self.inputs.held_out:
            raise MissingInput(_ASK["held_out"])
        return tuple(open_images(path) for path in self.inputs.held_out)

    @property
    def title(self) -> str:
        """Of the atlas."""
        return self.workspace.config.title or self.workspace.config.name

    @cached_property
    def compared(self) -> tuple[Context, ...]:
        """The other atlases, of this network or of others.

        Raises:
            MissingInput: none was given.
            AtlasError: one is not finished.
        """
        if not self.inputs.compare:
            raise MissingInput(_ASK["compare"])
        found = []
        for path, out in self.inputs.compare:
            workspace = open_workspace(load_config(str(path)), out)
            found.append(Context(workspace, make_plan(workspace), self.inputs))
        return tuple(found)

    @property
    def others(self) -> tuple[Context, ...]:
        """Those of the other atlases that are of this network.

        Raises:
            MissingInput: none was given.
            InputError: none of them is.
            AtlasError: one is not finished.
        """
        digest = self.workspace.network.digest
        found = tuple(other for other in self.compared if other.workspace.network.digest == digest)
        if not found:
            raise InputError(f"{self.inputs.compare[0][0]} is an atlas of another network, and so are all given")
        return found

    @cached_property
    def checkpoints(self) -> tuple[Workspace, ...]:
        """This atlas with the network at each stage of its training, first to last.

        Raises:
            MissingInput: fewer than two were given.
            InputError: a file is no network, or lacks a layer of the atlas, or has another shape there.
        """
        if len(self.inputs.checkpoints) < 2:
            raise MissingInput(_ASK["checkpoints"])
        networks = [load_network(path) for path in self.inputs.checkpoints]
        own = self.workspace.network
        for path, network in zip(self.inputs.checkpoints, networks, strict=True):
            for layer in (own.layer(name) for name in self.names):
                if network.layer(layer.name).shape != layer.shape or network.card.input != own.card.input:
                    raise InputError(
                        f"checkpoint {path} is another network: its input or its layer {layer.name} has another form"
                    )
        return tuple(replace(self.workspace, network=network) for network in networks)

    def demand(self, needs: Sequence[Need]) -> None:
        """See that what a study needs was given; nothing is read.

        Raises:
            MissingInput: something was not.
        """
        given = {
            "dataset": self.inputs.images,
            "judge": self.inputs.judge,
            "training": self.inputs.training,
            "held_out": self.inputs.held_out,
            "compare": self.inputs.compare,
            "checkpoints": self.inputs.checkpoints,
        }
        for need in needs:
            if not given[need]:
                raise MissingInput(_ASK[need])

    def publishable(self, path: str) -> bool:
        """Whether pixels of this picture of the data set may be published."""
        return may_publish(path, self.inputs.publish)

    def seed(self, *what: object) -> int:
        """A seed for random choices, the same in every run."""
        return zlib.crc32("\n".join(map(str, what)).encode())

    def _results(self, layer: LayerPlan) -> LayerResults:
        store, found = self.workspace.store, dict[int, list[Record]]()
        for seed in layer.seeds:
            for unit, record in store.read_units(seed.stored, layer.units).items():
                found.setdefault(unit, []).append(record)
        facts = layer.seeds[0].stored[0].facts
        return LayerResults(
            info=layer.info,
            title=layer.section.title or layer.info.name,
            labels=self.workspace.labels_of(layer.info),
            records={unit: tuple(sorted(found[unit], key=lambda r: r.seed)) for unit in sorted(found)},
            receptive_field=Box(**facts["receptive_field"]),
            image_px=int(facts["image_px"]),
        )


def pixels(record: Record) -> Pixels:
    """A record's image, (image_px, image_px, 3)."""
    with Image.open(io.BytesIO(record.image)) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def seen_pixels(layer: LayerResults, record: Record) -> Pixels:
    """What the unit sees of a record's image."""
    box = layer.seen
    return pixels(record)[box.top : box.bottom, box.left : box.right]
