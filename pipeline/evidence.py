"""The two commands that gather evidence: the dataset pass, and the studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.dataset_graph import Target
from export.errors import AtlasError
from pipeline.config import AtlasConfig, load_config
from pipeline.dataset.images import open_images
from pipeline.dataset.passes import PassSettings, Progress, run_pass
from pipeline.lock import FileLock
from pipeline.plan import Plan, make_plan
from pipeline.publication import LOCK
from pipeline.studies import get_study, studies
from pipeline.studies.base.context import DATASET, Context, Inputs
from pipeline.studies.base.run import run_studies
from pipeline.studies.base.study import MissingInput, Study
from pipeline.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class Given:
    """What the command line gives; it replaces what the configuration says.

    Paths of the command line start in the working directory, those of the configuration at its folder.
    """

    images: Path | None = None
    publish: tuple[str, ...] = ()
    judge: Path | None = None
    judge_layer: str | None = None
    training: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    compare: tuple[Path, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    classes: Path | None = None

    def inputs(self, config: AtlasConfig) -> Inputs:
        """What studies are given."""
        dataset, section = config.dataset, config.studies

        def path(given: Path | None, text: str | None) -> Path | None:
            return given or (config.path(text) if text else None)

        def paths(given: Sequence[Path], texts: Sequence[str]) -> tuple[Path, ...]:
            return tuple(given) or tuple(config.path(text) for text in texts)

        return Inputs(
            images=path(self.images, dataset.images),
            publish=self.publish or dataset.publish,
            judge=path(self.judge, section.judge),
            judge_layer=self.judge_layer or section.judge_layer,
            training=paths(self.training, section.training),
            held_out=paths(self.held_out, section.held_out),
            compare=tuple((p, load_config(str(p)).default_out) for p in paths(self.compare, section.compare)),
            checkpoints=paths(self.checkpoints, section.checkpoints),
            classes=path(self.classes, section.classes),
        )


def dataset_pass(
    config: AtlasConfig, out: Path, given: Given, on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """Run the dataset pass of an atlas, or resume it.

    The layers are those of the configuration; of a layer of which the atlas maximised the pre-activation somewhere,
    that is measured too.

    Raises:
        InputError: no data set was given, or it cannot be read.
        EngineError: the runtime failed.
    """
    workspace = open_workspace(config, out)
    source = given.inputs(config).images
    if source is None:
        raise MissingInput("no data set: give a folder of pictures with --images, or as dataset.images")
    images = open_images(source)
    with FileLock(out / LOCK):
        plan = make_plan(workspace)
        section = config.dataset
        settings = PassSettings(section.top, section.bins, section.sample, section.batch, config.run.threads)
        return run_pass(workspace.network, images, targets_of(workspace, plan), settings, out / DATASET, on_progress)


def targets_of(workspace: Workspace, plan: Plan) -> list[Target]:
    """What the pass measures: every layer, and what else its records maximised."""
    found: dict[tuple[str, str], Target] = {}
    for layer in plan.layers:
        info = layer.info
        found[info.name, info.name] = Target(info.name, info.name, info.tensor, info.shape)
        for seed in layer.seeds:
            for record in workspace.store.read_units(seed.stored, layer.units).values():
                if record.target != info.name:
                    found[info.name, record.target] = Target(info.name, record.target, record.target, info.shape)
    return list(found.values())


def study_atlas(config: AtlasConfig, out: Path, names: Sequence[str], given: Given) -> Iterator[str]:
    """Run studies of a finished atlas; yields a line per study as they end.

    Raises:
        InputError: an unknown study; or, where studies were named, one of them refused.
        AtlasError: the atlas is not finished.
    """
    chosen: list[Study] = [get_study(name) for name in names] if names else list(studies().values())
    workspace = open_workspace(config, out)
    with FileLock(out / LOCK):
        context = Context(workspace, make_plan(workspace), given.inputs(config))
        refused: list[str] = []
        for study in chosen:
            lines: list[str] = []

            def note(study: Study, outcome: str, text: str, lines: list[str] = lines) -> None:
                lines.append(f"{study.name}: {outcome}; {text}")

            outcomes = run_studies(context, [study], note)
            refused += [name for name, outcome in outcomes.items() if outcome == "refused"]
            yield from lines
        if names and refused:
            raise AtlasError(f"refused: {', '.join(refused)}; the lines above say why")
