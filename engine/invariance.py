"""Does a job's result depend on its slot or its companions? A gate before an engine's results are stored.

It must not, to the bit, and whether it does is a matter of the graph too. ONNX Runtime's sums and means of rows, and
its Log, Elu, Selu, Celu, Softplus, Mish and InstanceNormalization, take four numbers at a time from the first aligned
address on: where a slot's share of such a tensor is not a multiple of four numbers, the last bit depends on the slot.
"""

from __future__ import annotations

import numpy as np

from engine.protocol import Runner
from engine.slots import Job
from engine.start import start_code
from export.errors import InputError
from export.prior import CodePrior


def dependent_slots(
    runner: Runner, prior: CodePrior, num_steps: int = 3, seed: int = 0, scale: float = 1.0
) -> list[int]:
    """Run one job in every slot in turn, each time among other companions, and compare what it leaves.

    Args:
        runner: the engine; its slots are overwritten.
        prior: where codes are drawn, as start codes are.
        num_steps: steps of each run, at most the manifest's.
        seed: of the codes and units.
        scale: spread of the codes, see :func:`engine.start.start_code`.

    Returns:
        The slots in which the job's scalars, best code or image differ in any bit from those in slot 0; empty if the
        engine is fit for use.

    Raises:
        InputError: ``num_steps`` is out of range.
        EngineError: the runtime failed.
    """
    manifest = runner.manifest
    if not 1 <= num_steps <= manifest.steps:
        raise InputError(f"compare 1 to {manifest.steps} steps, not {num_steps}")
    rng = np.random.default_rng(seed)

    def draw(unit: int, number: int) -> np.ndarray:
        return start_code(prior, f"invariance of {manifest.layer}", Job(unit, number), scale)

    chosen = int(rng.integers(manifest.num_units))
    job = draw(chosen, seed)
    left: list[bytes] = []
    for slot in range(runner.num_slots):
        units = rng.integers(0, manifest.num_units, runner.num_slots).tolist()
        codes = np.stack([draw(unit, seed + 1 + slot * runner.num_slots + i) for i, unit in enumerate(units)])
        units[slot], codes[slot] = chosen, job
        runner.fill(range(runner.num_slots), units, codes)
        runner.step(num_steps)
        scalars = runner.scalars()
        values = (scalars.activation, scalars.gradient, scalars.best_activation)
        left.append(
            b"".join(value[slot].tobytes() for value in values)
            + runner.best_codes([slot]).tobytes()
            + runner.decode(codes)[slot].tobytes()
        )
    return [slot for slot, found in enumerate(left) if found != left[0]]
