"""``make judge``: does a network that had no part in them recognise the images of class units?

Builds (or resumes) the atlas of a configuration whose layer are the 1,000 classes of ImageNet, and shows every picture
to SqueezeNet. The last two lines printed are ``top-1 X%`` and ``top-5 Y%``.

    python -m pipeline.judge --weights squeezenet1_0_imagenet.npz
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from PIL import Image

from export.errors import AtlasError, InputError
from export.squeezenet import IMAGE_PX, prepared, read_weights, squeezenet
from pipeline.build import build
from pipeline.config import AtlasConfig, load_config
from pipeline.plan import make_plan
from pipeline.progress import LineReporter
from pipeline.records import Record, best_of
from pipeline.workspace import open_workspace

BATCH = 8
WEIGHTS_VARIABLE = "JUDGE_WEIGHTS"


@dataclass(frozen=True)
class Verdict:
    """Where each unit's own class stands among the judge's scores.

    Attributes:
        ranks: (unit, seed) -> 0 for the first place.
    """

    ranks: dict[tuple[int, int], int]

    def share(self, places: int) -> float:
        """Share of the pictures whose class is among the first ``places``."""
        return sum(rank < places for rank in self.ranks.values()) / len(self.ranks)


def judge(images: Sequence[tuple[int, int, bytes]], weights: Path) -> Verdict:
    """Show pictures to SqueezeNet.

    Args:
        images: (unit, seed, PNG); a unit is an ImageNet class, 0 to 999.
        weights: ``.npz`` of SqueezeNet v1.0.

    Raises:
        InputError: the weights are missing or others, ONNX Runtime is not installed, or a unit is no class.
    """
    known = read_weights(weights)
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"the judge runs under ONNX Runtime ({error}); run: pip install 'neuron-atlas[cpu]'"
        ) from error
    model = ir.to_proto(squeezenet(known, BATCH)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ranks: dict[tuple[int, int], int] = {}
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        fed = np.zeros((BATCH, 3, IMAGE_PX, IMAGE_PX), np.float32)
        for row, (_, _, png) in enumerate(part):
            fed[row] = prepared(as_seen(png))
        (scores,) = session.run(None, {"image": fed})
        for (unit, seed, _), row in zip(part, scores, strict=False):
            if not 0 <= unit < len(row):
                raise InputError(f"unit {unit} is none of the judge's {len(row)} classes")
            ranks[unit, seed] = int((row > row[unit]).sum())
    return Verdict(ranks)


def as_seen(png: bytes) -> npt.NDArray[np.uint8]:
    """A picture at the judge's size, (227, 227, 3) RGB."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB").resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BILINEAR))


def built_records(config: AtlasConfig, out: Path) -> list[Record]:
    """One record per unit of the configuration's only layer: of its seeds the one that the atlas shows.

    Raises:
        InputError: more layers than one; see also :func:`pipeline.build.build`.
    """
    if len(config.layers) != 1:
        raise InputError(f"the judge looks at one layer of classes; {config.name} has {len(config.layers)}")
    build(config, out, LineReporter(click.echo))
    workspace = open_workspace(config, out)
    (layer,) = make_plan(workspace).layers
    by_unit: dict[int, list[Record]] = {unit: [] for unit in layer.units}
    for seed in layer.seeds:
        for record in workspace.store.read_units(seed.stored, layer.units).values():
            by_unit[record.unit].append(record)
    return [best_of(records, layer.info.name) or records[0] for records in by_unit.values()]


@click.command()
@click.option("--config", "source", default="judge", show_default=True, help="A configuration of one layer of classes.")
@click.option("--generator", help="Judge this one instead of the configured one.")
@click.option("--weights", envvar=WEIGHTS_VARIABLE, type=click.Path(path_type=Path), help="SqueezeNet v1.0 as .npz.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: build/NAME.")
def main(source: str, generator: str | None, weights: Path | None, out: Path | None) -> None:
    """Build class units and have an independent network name them."""
    try:
        if weights is None:
            raise InputError(
                "the judge's weights are not part of the project; give SqueezeNet v1.0 (ImageNet, BSD) as an .npz "
                f"of LAYER.weight and LAYER.bias: --weights FILE, or {WEIGHTS_VARIABLE}=FILE make judge"
            )
        read_weights(weights)  # before minutes of work
        config = load_config(source)
        if generator is not None:
            source = str(Path(generator).resolve()) if generator.endswith(".onnx") else generator
            section = config.generator.model_copy(update={"source": source})
            config = config.model_copy(update={"generator": section})
        records = built_records(config, out or config.default_out)
        verdict = judge([(r.unit, r.seed, r.image) for r in records], weights)
    except AtlasError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    dead = sum(record.status == "dead" for record in records)
    click.echo(f"{len(records)} classes, {dead} dead, the picture shown of each of them named by SqueezeNet v1.0")
    click.echo(f"top-1 {100 * verdict.share(1):.1f}%")
    click.echo(f"top-5 {100 * verdict.share(5):.1f}%")


if __name__ == "__main__":
    main()
