"""One run of training, from its options to the published generator: what ``neuron-atlas train-generator`` does."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from export.errors import InputError
from export.generators.architecture import GeneratorConfig
from export.generators.checkpoint import changes, check_same, read_checkpoint, statistics_of, write_checkpoint
from export.generators.encoder import Encoder, EncoderLayers, choose_layers, unit_layer_of
from export.generators.images import Sampler, Source
from export.generators.publish import Start, averaged, publish
from export.generators.recipe import TrainConfig
from export.generators.train import STATISTICS_FROM, Trainer
from export.generators.weights import published_statistics, published_weights
from export.interrupts import held, pressed
from export.network import Network

NUM_SHOWN = 12
SPATIAL_DIM = 32


@dataclass(frozen=True)
class TrainOptions:
    """What a user asks for.

    Attributes:
        source: the encoder, as the user named it.
        images: ``PATH[:WEIGHT[:STORED_PX]]``: folders or tars.
        out: folder of the checkpoint, the samples, the log and the generator.
        config: the recipe.
        code: ``global``, ``spatial`` or ``hybrid``.
        image_px: side of the generator's image.
        global_layer, spatial_layer, taps: see :class:`export.generators.encoder.EncoderLayers`; chosen where not named.
        spatial_dim: components of the spatial code per position.
        map_dim: components of the whole of this spatial map instead, 0 for all of it.
        grid: side of the spatial code; the generator's coarsest by default.
        style_dim: width of the vector that modulates every stage.
        every: steps between checkpoints, samples and lines.
        device: ``cpu`` or ``cuda``.
        start_from: a published generator whose weights are taken over.
        start_share: its share in the weights that are published at the end.
        trained_on: what the images were and on what terms.
        title: of the card.
        witness: a network with the encoder's classes that must see in climbed images what the encoder sees.
        witness_taps: its feature maps that the discriminator sees as well; none unless named.
    """

    source: str
    images: tuple[str, ...]
    out: Path
    config: TrainConfig
    code: str = "hybrid"
    image_px: int = 128
    global_layer: str | None = None
    spatial_layer: str | None = None
    taps: tuple[str, ...] = ()
    spatial_dim: int = SPATIAL_DIM
    map_dim: int = 0
    grid: int | None = None
    style_dim: int = 512
    every: int = 100
    device: str = "cpu"
    start_from: Path | None = None
    start_share: float = 0.0
    trained_on: str | None = None
    title: str | None = None
    witness: Network | None = None
    witness_taps: tuple[str, ...] = ()


def train_generator(options: TrainOptions, network: Network, say: Callable[[str], None]) -> Path:
    """Train, or go on training, and publish.

    An interrupt (Ctrl-C) ends the run after the step in progress; the same command goes on from there.

    Args:
        options: what is asked for.
        network: the encoder.
        say: told a line at a time.

    Returns:
        The generator, ``OUT/generator.onnx``.

    Raises:
        InputError: wrong options, images, or a checkpoint of another training.
        ModelError: the encoder cannot be run, a loss is not finite, or the export does not agree.
        KeyboardInterrupt: after the checkpoint was written.
    """
    trainer = make_trainer(options, network, say)
    out, checkpoint = options.out, options.out / "checkpoint.pt"
    layers, shape = trainer.encoder.layers, trainer.shape
    parts = [f"global {layers.global_layer} ({shape.global_dim})"] if layers.global_layer else []
    if layers.spatial_layer:
        size = f"{shape.map_dim} of" if shape.map_dim else f"{shape.spatial_dim} at"
        parts.append(f"spatial {layers.spatial_layer} ({size} {shape.grid}x{shape.grid})")
    say(f"{network.card.title}: code {', '.join(parts)}; images compared in {', '.join(layers.taps)}")
    shown = torch.from_numpy(trainer.sampler.batch(STATISTICS_FROM - 1, NUM_SHOWN).images).to(options.device)
    (out / "samples").mkdir(exist_ok=True)
    steps, started, first = options.config.steps, time.monotonic(), trainer.done
    with held():
        last = trainer.done >= steps
        while not last:
            record = trainer.step()
            last = trainer.done == steps or pressed()
            if trainer.done % options.every and not last:
                continue
            pace = (time.monotonic() - started) / (trainer.done - first)
            entry = {k: round(v, 4) for k, v in record.items()} | {"s_per_step": round(pace, 3)}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            say(progress_line(record, steps, pace))
            samples(trainer, shown).save(out / "samples" / f"{trainer.done:06d}.png")
            write_checkpoint(trainer.state(), checkpoint)
    if trainer.statistics.candidates is None:
        say("encoding images for the codes that ascents start from")
        trainer.measure_candidates()
        write_checkpoint(trainer.state(), checkpoint)
    made = out / "generator.onnx"
    card = publish(
        checkpoint,
        made,
        options.trained_on or said_of(options.images),
        title=options.title,
        network=network,
        start=Start.of(options.start_from, options.start_share),
    )
    say(f"{card['title']}: {card['parameters'] / 1e6:.1f} M parameters, {made.stat().st_size / 1e6:.1f} MB")
    say("the exported graph agrees with the trained module")
    return made


def make_trainer(options: TrainOptions, network: Network, say: Callable[[str], None] = lambda line: None) -> Trainer:
    """Everything that is needed for the next step: the checkpoint's state, or the first, with measured statistics.

    Raises:
        InputError: see :func:`train_generator`.
    """
    config = options.config
    if not 0 <= config.mixed < config.batch:
        raise InputError(f"a batch of {config.batch} cannot hold {config.mixed} blended images; give a larger --batch")
    if config.climbed > config.batch:
        raise InputError(f"{config.climbed} climbing rows are more than the {config.batch} images of a --batch")
    start = Start.of(options.start_from, options.start_share)
    if options.map_dim and options.code == "global":
        raise InputError(
            "--map-dim is of a spatial code, and a global code has none; use --code hybrid, or leave it out"
        )
    if options.device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"PyTorch finds no device {options.device!r} here; use --device cpu")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    layers = choose_layers(
        network,
        options.source,
        options.code,
        global_layer=options.global_layer,
        spatial_layer=options.spatial_layer,
        taps=options.taps,
    )
    shape = shape_for(options, network, layers)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    state = read_checkpoint(checkpoint) if checkpoint.exists() else None
    statistics = None
    if state is not None:  # before a minute is spent on them
        check_same(state, shape, layers)
        statistics = statistics_of(state)
    sources = [parse_source(text, options.image_px) for text in options.images]
    sampler = Sampler(sources, options.out / "cache", options.image_px, config.seed)
    encoder = Encoder(network, layers, options.device)
    witness = witness_of(options, encoder)
    weights: dict[str, torch.Tensor] = {}
    if state is None and options.start_from is not None:
        weights = published_weights(options.start_from)
        statistics = published_statistics(options.start_from, weights, shape, encoder)
        kept = "those of" if statistics else "measured anew, unlike those of"
        say(f"what codes mean: {kept} {options.start_from}")
    trainer = Trainer(config, shape, sampler, encoder, options.device, witness, statistics)
    if state is not None:
        trainer.restore(state)
        for line in changes(state["config"], asdict(config)):
            say(line)
        say(f"going on from step {trainer.done} of {checkpoint}")
    elif weights:
        taken = trainer.start_from(weights)
        say(f"{len(taken)} of {len(trainer.generator.state_dict())} weights taken over from {options.start_from}")
    if start is not None:  # before hours are spent
        averaged(trainer.average.state_dict(), start, trainer.statistics, shape, encoder)
    return trainer


def witness_of(options: TrainOptions, encoder: Encoder) -> Encoder | None:
    """The witness as a network whose classes alone are looked at.

    Raises:
        InputError: it is not asked anything, or has other classes.
    """
    if options.witness is None:
        return None
    if not options.config.mixed and not options.config.climbed:
        raise InputError(
            f"the witness has nothing to look at: a batch of {options.config.batch} holds no blended images and "
            "nothing climbs; give a --batch of 4 or more, or --climbed"
        )
    asked, own = encoder.layers.unit_layer, unit_layer_of(options.witness)
    if asked is None or own is None:
        raise InputError("a witness compares classes; encoder and witness must both end in a vector of them")
    many, few = encoder.network.layer(asked).num_units, options.witness.layer(own).num_units
    if many != few:
        raise InputError(f"the witness has {few} classes and the encoder {many}; it must know the same ones")
    for tap in options.witness_taps:
        if len(options.witness.layer(tap).shape) != 3:
            raise InputError(f"layer {tap} of the witness is a vector, not a map; --witness-taps are maps")
    return Encoder(options.witness, EncoderLayers("witness", None, None, options.witness_taps, own), options.device)


def shape_for(options: TrainOptions, network: Network, layers: EncoderLayers) -> GeneratorConfig:
    """The generator's shape.

    Raises:
        InputError: no such size, or more spatial components than channels.
    """
    global_dim = network.layer(layers.global_layer).num_units if layers.global_layer else 0
    map_dim = options.map_dim if layers.spatial_layer else 0
    spatial_dim = options.spatial_dim if layers.spatial_layer else 0
    if layers.spatial_layer and spatial_dim > network.layer(layers.spatial_layer).num_units:
        raise InputError(
            f"--spatial-dim {spatial_dim} is more than the {network.layer(layers.spatial_layer).num_units} channels of "
            f"{layers.spatial_layer}"
        )
    return GeneratorConfig.for_image(
        options.image_px,
        global_dim=global_dim,
        spatial_dim=spatial_dim,
        map_dim=map_dim,
        style_dim=options.style_dim,
        grid=options.grid,
    )


def parse_source(text: str, image_px: int) -> Source:
    """``PATH[:WEIGHT[:STORED_PX]]``; weight 1 and the generator's side by default.

    Raises:
        InputError: a weight or size of 0.
    """
    match = re.fullmatch(r"(.+?)(?::(\d+(?:\.\d+)?))?(?::(\d+))?", text)
    assert match is not None
    source = Source(Path(match[1]), float(match[2] or 1), int(match[3] or image_px))
    if not source.weight > 0 or source.stored_px < 8:
        raise InputError(f"--images {text}: the weight must be above 0 and the stored side at least 8 px")
    return source


def said_of(images: tuple[str, ...]) -> str:
    """What the card says of the images where the user says nothing."""
    names = ", ".join(parse_source(text, 8).path.name for text in images)
    return f"{names}; their terms were not stated (--trained-on)"


def progress_line(record: dict[str, float], steps: int, pace_s: float) -> str:
    left = (steps - record["step"]) * pace_s
    losses = "  ".join(f"{name} {value:.3f}" for name, value in record.items() if name != "step")
    return f"step {record['step']:.0f}/{steps}  {losses}  {pace_s:.2f} s/step, {left / 3600:.1f} h left"


@torch.no_grad()
def samples(trainer: Trainer, images: torch.Tensor) -> Image.Image:
    """A sheet: images, their reconstructions; with both codes, those without the spatial one; the highest climbers."""
    code = trainer.statistics.encode(trainer.encoder(images), trainer.shape.grid)
    rows = [images, trainer.average(code)]
    if trainer.shape.global_dim and trainer.shape.map_size:
        bare = code.clone()
        bare[:, trainer.shape.global_dim :] = 0
        rows.append(trainer.average(bare))
    if trainer.climbers is not None:
        oldest = trainer.climbers.age.argsort(descending=True)[: len(images)]
        rows.append(trainer.average(trainer.climbers.code[oldest]))
    return sheet(torch.cat(rows).cpu().numpy(), columns=len(images))


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """Tile ``(N, 3, H, W)`` images in [0, 1] row by row."""
    n, _, h, w = images.shape
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * h, columns * w, 3), np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * h, i % columns * w
        canvas[top : top + h, left : left + w] = np.rint(np.clip(image, 0, 1).transpose(1, 2, 0) * 255)
    return Image.fromarray(canvas)
