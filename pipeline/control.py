"""Synthesis with control: mixtures of units, a start picture, a position or mask, steps between two units.

Also from Python::

    from pipeline.control import Control, between, run_control

    for made in run_control(Control("bundled:lite0", "_fc", between(207, 340, 5))):
        made.image  # (64, 64, 3) uint8
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.loop import JobResult, run_jobs
from engine.runtimes import builders
from engine.slots import Job
from engine.start import start_code
from export.errors import InputError
from export.network import LayerInfo, Network
from export.objective import OBJECTIVE, likeness, mask_at, with_objectives
from pipeline.config import parse_config
from pipeline.dataset.images import fitted
from pipeline.engines import Engines
from pipeline.workspace import Workspace, network_of, open_workspace

START_LR = 0.05
"""First learning rate from a start picture: a fifth of the usual, so that the result still resembles it."""
INVERSION_STEPS = 150
MAX_BATCH = 8
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mixture:
    """Units and their weights; a negative one is avoided."""

    weights: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        return " ".join(f"{weight:+.3g}x{unit}" for unit, weight in self.weights)


@dataclass(frozen=True)
class Control:
    """What to synthesise.

    Attributes:
        network: as in a configuration.
        layer: of it.
        mixtures: one picture (per seed) each.
        generator: as in a configuration.
        weights: state dict for a PyTorch network.
        seeds: start codes per mixture.
        attempts: starts per seed, the best of which goes on after a quarter of the steps; one from a start picture.
        steps: of ascent.
        runtime: by default the first that can run here.
        same_start: every mixture starts from the same codes; else a single unit starts where an atlas starts it.
        start: picture from which the ascent starts: a code is searched for that the generator makes it from.
        position: (row, column) of the layer, instead of its centre.
        mask: grey picture of any size, resized to the layer's positions: where the units are to be active.
    """

    network: str
    layer: str
    mixtures: tuple[Mixture, ...]
    generator: str = "bundled:lite0-hybrid"
    weights: Path | None = None
    seeds: int = 1
    attempts: int = 1
    steps: int = 100
    runtime: str | None = None
    same_start: bool = False
    start: Path | None = None
    position: tuple[int, int] | None = None
    mask: Path | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """A picture.

    Attributes:
        mixture: what was maximised.
        seed: of the start code.
        status: ``done`` or ``dead``.
        objective: the weighted sum that was reached.
        start_objective: the same at the start code.
        target: the tensor whose units were summed.
        steps: done.
        code: (code_dim,).
        image: (image_px, image_px, 3) uint8.
    """

    mixture: Mixture
    seed: int
    status: str
    objective: float
    start_objective: float
    target: str
    steps: int
    code: Floats
    image: npt.NDArray[np.uint8]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture."""
        return {
            "units": [{"unit": unit, "weight": weight} for unit, weight in self.mixture.weights],
            "seed": self.seed,
            "status": self.status,
            "objective": self.objective if np.isfinite(self.objective) else None,
            "start_objective": self.start_objective if np.isfinite(self.start_objective) else None,
            "target": self.target,
            "steps": self.steps,
            "code": [float(f"{value:.6g}") for value in self.code],
        }


def between(first: int, last: int, count: int) -> tuple[Mixture, ...]:
    """``count`` mixtures from one unit to another, both included.

    Raises:
        InputError: fewer than 2, or one unit twice.
    """
    if count < 2 or first == last:
        raise InputError("steps between two units need two different units and at least 2 frames")
    shares = np.linspace(0, 1, count)
    parts = [((first, float(1 - t)), (last, float(t))) for t in shares]
    return tuple(Mixture(tuple(p for p in pair if p[1] > 0)) for pair in parts)


def run_control(control: Control) -> list[Made]:
    """Synthesise; by mixture, then by seed.

    Raises:
        InputError: what was asked for is wrong; nothing has been computed.
        EngineError: the runtime failed.
    """
    if not control.mixtures or control.seeds < 1 or control.attempts < 1:
        raise InputError("nothing is asked for; give units, or mixtures of them, and at least one seed and attempt")
    network = network_of(control.network, control.weights)
    info = network.layer(control.layer)
    weights = _weights(control.mixtures, info)
    mask = _mask(control, info)
    with tempfile.TemporaryDirectory() as nowhere:
        folder = Path(nowhere)
        starts = _starts(control, network, folder) if control.start is not None else None
        jobs = [Job(index, seed) for index in range(len(control.mixtures)) for seed in range(control.seeds)]
        found = _climb(control, network, weights, mask, jobs, starts, folder, pre_activation=False)
        dead = [job for job in jobs if found[job].status == "dead"]
        if dead and info.pre_activation is not None:
            found |= _climb(control, network, weights, mask, dead, starts, folder, pre_activation=True)
    return [found[job] for job in jobs]


def _climb(
    control: Control,
    network: Network,
    weights: Floats,
    mask: Floats | None,
    jobs: Sequence[Job],
    starts: dict[int, Floats] | None,
    folder: Path,
    *,
    pre_activation: bool,
) -> dict[Job, Made]:
    path = folder / f"objective-{'before' if pre_activation else 'after'}.onnx"
    extended = with_objectives(network, control.layer, weights, path, pre_activation=pre_activation, mask=mask)
    ascent: dict[str, float] = {"lr": START_LR} if starts is not None else {}
    workspace = _open(extended, control, folder, len(jobs), control.steps, ascent)
    prior, scale = workspace.generator.prior, workspace.config.ascent.start_scale

    def start(job: Job) -> Floats:
        if starts is not None:
            return starts[job.seed]
        units = control.mixtures[job.unit].weights
        chosen = engines.candidates.chosen(objective, replace(job, unit=0) if control.same_start else job)
        if chosen is not None:
            return chosen
        unit = units[0][0] if len(units) == 1 and not control.same_start else 0
        return start_code(prior, control.layer, replace(job, unit=unit), scale)

    attempts = workspace.config.start.attempts
    objective = extended.layer(OBJECTIVE)
    with Engines(workspace) as engines:
        results = run_jobs(
            engines.runner(OBJECTIVE, pre_activation=False),
            [attempt for job in jobs for attempt in job.attempts(attempts)],
            start,
            workspace.stop_rule,
            workspace.config.run.poll_every,
            trial_steps=workspace.trial_steps,
        )
    info = network.layer(control.layer)
    target = info.pre_activation if pre_activation else info.name
    return {
        job: _made(control.mixtures[job.unit], result, str(target)) for job, result in zip(jobs, results, strict=True)
    }


def _made(mixture: Mixture, result: JobResult, target: str) -> Made:
    return Made(
        mixture=mixture,
        seed=result.seed,
        status=result.status,
        objective=float(result.activation),
        start_objective=float(result.curve[0]) if len(result.curve) else float("nan"),
        target=target,
        steps=result.steps,
        code=result.code,
        image=result.image,
    )


def _starts(control: Control, network: Network, folder: Path) -> dict[int, Floats]:
    """A code per seed from which the generator makes the start picture, as nearly as ascent finds one."""
    assert control.start is not None
    card = network.card.input
    try:
        picture = fitted(control.start.read_bytes(), card.height, card.width)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"start picture {control.start} cannot be read: {error}") from error
    side = (card.height, card.width)
    alike = likeness(side, picture, network, folder / "likeness.onnx")
    workspace = _open(alike, control, folder, control.seeds, INVERSION_STEPS, {"lr": 0.3})
    objective = alike.layer(OBJECTIVE)
    with Engines(workspace) as engines:
        results = run_jobs(
            engines.runner(OBJECTIVE, pre_activation=False),
            [Job(0, seed) for seed in range(control.seeds)],
            partial(engines.candidates.start, objective),
            workspace.stop_rule,
            workspace.config.run.poll_every,
        )
    return {result.seed: result.code for result in results}


def open_sheet(
    network: str,
    layer: str,
    folder: Path,
    generator: str,
    *,
    weights: Path | None = None,
    steps: int = 100,
    runtime: str | None = None,
    ascent: dict[str, float] | None = None,
) -> Workspace:
    """A workspace for a few units; ``ascent`` replaces settings of the ascent.

    Raises:
        InputError: network, generator or runtime cannot be used.
    """
    able = [name for name, builder in builders().items() if builder.availability().ok]
    poll_every = next(count for count in (5, 4, 3, 2, 1) if steps % count == 0)
    raw = {
        "name": "sheet",
        "network": {"source": network} | ({"weights": str(weights.resolve())} if weights else {}),
        "generator": {"source": generator},
        "ascent": {"steps": steps} | (ascent or {}),
        "run": {"runtime": runtime or (able or ["onnxruntime"])[0], "poll_every": poll_every},
        "layers": [{"name": layer}],
    }
    return open_workspace(parse_config(raw, "of this command", folder=str(Path.cwd())), folder)


def _open(
    network: Network, control: Control, folder: Path, num_jobs: int, steps: int, ascent: dict[str, float]
) -> Workspace:
    workspace = open_sheet(
        str(network.path), OBJECTIVE, folder, control.generator, steps=steps, runtime=control.runtime, ascent=ascent
    )
    attempts = control.attempts if control.start is None else 1
    run = workspace.config.run.model_copy(update={"batch": min(MAX_BATCH, num_jobs * attempts)})
    start = workspace.config.start.model_copy(update={"attempts": attempts})
    config = workspace.config.model_copy(update={"run": run, "start": start})
    return replace(workspace, config=config, network=network)


def _weights(mixtures: Sequence[Mixture], info: LayerInfo) -> Floats:
    rows = np.zeros((len(mixtures), info.num_units), np.float32)
    for row, mixture in enumerate(mixtures):
        for unit, weight in mixture.weights:
            if not 0 <= unit < info.num_units:
                raise InputError(f"layer {info.name} has units 0 to {info.num_units - 1}; there is no unit {unit}")
            rows[row, unit] = weight
    return rows


def _mask(control: Control, info: LayerInfo) -> Floats | None:
    if control.position is not None and control.mask is not None:
        raise InputError("give a position or a mask, not both")
    if control.position is not None:
        return mask_at(info.shape, *control.position)
    if control.mask is None:
        return None
    if len(info.shape) != 3:
        raise InputError(f"layer {info.name!r} is a vector; a mask needs a feature map")
    try:
        with Image.open(control.mask) as image:
            grey = image.convert("L").resize((info.shape[2], info.shape[1]), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"mask {control.mask} cannot be read: {error}") from error
    return np.asarray(grey, np.float32) / np.float32(255)
