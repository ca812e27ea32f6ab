"""Where ascents start: at the candidate code that already activates the unit most.

An ascent that starts at the mean code has to invent a whole picture, and ends in a patchwork of textures; one that
starts at a code of something like the unit's own images has a picture to improve. The candidates come with the
generator (``candidates`` of its ``NAME.codes.npz``), or are drawn from its prior. All of them are decoded and shown to
the network once; a unit's seed ``s`` starts at the one that activates it most but ``s``, of several attempts
(``[start] attempts``) each at one of its own.

Which candidate a unit gets depends on the network and the generator alone, so no decision is stored; where two are as
good to the last digits, machines may differ, as they do in the ascents themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from engine.slots import Job
from engine.start import standard_normal, start_code
from export.errors import InputError
from export.forward import Readout, compile_forward
from export.network import LayerInfo
from pipeline.facts import read_facts, write_facts
from pipeline.forward import Forward
from pipeline.tuning import cache_file
from pipeline.workspace import Workspace

NUM_RANKED = 32
"""Candidates that are told apart for a unit; further seeds and attempts begin again with the first, and other noise."""

BATCH = 8

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Order = list[list[int]]
"""Per unit, its candidates from the best on."""


class Candidates:
    """The start codes of a workspace; candidates are decoded and shown when they are first needed.

    Args:
        workspace: of the atlas.
        say: told in a sentence before they are shown to the network, which takes seconds.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None] = log.info) -> None:
        self._workspace, self._say = workspace, say
        self._codes: Floats | None = None
        self._orders: dict[str, Order] = {}

    def start(self, layer: LayerInfo, job: Job) -> Floats:
        """Where a job starts, (code_dim,): :meth:`chosen`, or a drawn code where there is no candidate."""
        code = self.chosen(layer, job)
        if code is not None:
            return code
        return start_code(self._workspace.generator.prior, layer.name, job, self._workspace.config.ascent.start_scale)

    def chosen(self, layer: LayerInfo, job: Job) -> Floats | None:
        """A job's candidate and noise, (code_dim,), made plausible; None where there is no candidate.

        Raises:
            InputError: ONNX Runtime is not installed.
            EngineError: it cannot run the network or the generator.
        """
        workspace = self._workspace
        if not workspace.num_candidates:
            return None
        if layer.name not in self._orders:
            self._orders |= self._ranked(layer)
        order = self._orders[layer.name][job.unit]
        place = job.seed * workspace.config.start.attempts + job.attempt
        centre = self._candidates()[order[place % len(order)]]
        scale = workspace.config.ascent.start_scale
        return start_code(workspace.generator.prior, layer.name, job, scale, centre)

    def _candidates(self) -> Floats:
        if self._codes is None:
            self._codes = candidate_codes(self._workspace)
        return self._codes

    def _ranked(self, layer: LayerInfo) -> dict[str, Order]:
        """The orders of a layer, and of all others that are asked for: the network is run once."""
        workspace = self._workspace
        names = [section.name for section in workspace.config.layers]
        known = {info.name: info for info in workspace.network.layers}
        asked = [known[name] for name in names if name in known]
        wanted = {info.name: info for info in (layer, *asked, *(info.negative for info in asked))}
        facts = {
            "network": workspace.network.digest,
            "generator": workspace.generator.digest,
            "candidates": workspace.num_candidates,
            "layers": sorted(wanted),
            "fit": workspace.config.ascent.fit,
            "best": NUM_RANKED,
        }
        path = cache_file("starts", facts)
        kept: dict[str, Order] = read_facts(path).get("orders", {})
        if set(kept) != set(wanted):
            kept = self._measured(list(wanted.values()))
            write_facts(path, {**facts, "orders": kept})
        return kept

    def _measured(self, layers: Sequence[LayerInfo]) -> dict[str, Order]:
        count = self._workspace.num_candidates
        self._say(f"showing {count} candidate starts to {self._workspace.network.card.title}, once on this machine")
        pictures = self._pictures()
        workspace, side = self._workspace, pictures.shape[1]
        network, card = workspace.network, workspace.network.card.input
        image_px: int | None = side
        if workspace.config.ascent.fit == "crop" and side >= max(card.height, card.width):
            top, left = (side - card.height) // 2, (side - card.width) // 2
            pictures = pictures[:, top : top + card.height, left : left + card.width]
            image_px = None
        readouts = {info.tensor: Readout(f"of_{i}", info.tensor, "centre") for i, info in enumerate(layers)}
        model = compile_forward(network, list(readouts.values()), batch=BATCH, image_px=image_px)
        seen = Forward(model, workspace.config.run.threads)(image=pictures)
        found = {}
        for info in layers:
            values = seen[readouts[info.tensor].name].astype(np.float32)
            order = np.argsort(-info.sign * values, axis=0, kind="stable")[:NUM_RANKED]
            found[info.name] = order.T.tolist()
        return found

    def _pictures(self) -> npt.NDArray[np.uint8]:
        """What the generator makes of the candidates, (K, S, S, 3) RGB."""
        workspace = self._workspace
        try:
            decode = Forward(workspace.decode(BATCH), workspace.config.run.threads)
        except ImportError as error:
            raise InputError(
                f"candidates for start codes are tried under ONNX Runtime ({error}); run: pip install "
                "'neuron-atlas[cpu]', on a machine with a GPU 'neuron-atlas[gpu]', or set [start] candidates = 0"
            ) from error
        images = decode(code=self._candidates())["image"]
        return np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)


def candidate_codes(workspace: Workspace) -> Floats:
    """The candidates, (K, code_dim): the first of those that the generator brings, or as many drawn from its prior."""
    generator, count = workspace.generator, workspace.num_candidates
    if generator.candidates is not None:
        return generator.candidates[:count]
    prior = generator.prior
    drawn = standard_normal(f"candidates\n{count}", count * prior.code_dim).reshape(count, prior.code_dim)
    return np.stack([prior.constrain(prior.mean + prior.std * row) for row in drawn])
