"""The command ``neuron-atlas``. What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.errors import AtlasError, InputError

if TYPE_CHECKING:
    from pipeline.config import AtlasConfig

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="neuron-atlas")
def cli() -> None:
    """Synthesise the preferred input of every unit of an image network."""


def config_options(command: Any) -> Any:
    """CONFIG and the options that override it."""
    for decorate in reversed(
        (
            click.argument("config"),
            click.option("--layers", help="Only these layers, separated by commas."),
            click.option("--units", help="Only these units of every layer: all, 0:64, 3,17,40:50, or a class name."),
            click.option("--seeds", type=click.IntRange(min=1), help="Seeds (start codes) per unit."),
            click.option("--runtime", help="One that `neuron-atlas engines` lists."),
            click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: build/NAME."),
        )
    ):
        command = decorate(command)
    return command


@cli.command()
@config_options
def build(out: Path | None, **options: Any) -> None:
    """Build the atlas of CONFIG, or resume it.

    CONFIG is a TOML file or the bare name of one in deploy/atlases/. What is in the store already is not computed
    again. The last line printed is the page to open.
    """
    from rich.console import Console

    from pipeline.build import build as run_build
    from pipeline.progress import format_duration, make_reporter

    config = _configured(**options)
    console = Console()
    report = run_build(config, out or config.default_out, make_reporter(console))
    if report.num_made:
        click.echo(f"{report.num_made} of {report.num_jobs} jobs run in {format_duration(report.duration_s)}")
    if not report.published:
        click.echo("the site is up to date")
    click.echo(report.index)


@cli.command()
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(out: Path | None, as_json: bool, **options: Any) -> None:
    """Tell what a build of CONFIG would do, and about what it would take; compute nothing."""
    from pipeline.plan import make_plan
    from pipeline.predict import predict
    from pipeline.progress import format_duration, format_size
    from pipeline.workspace import open_workspace

    config = _configured(**options)
    workspace = open_workspace(config, out or config.default_out)
    made = make_plan(workspace)
    prediction = predict(workspace, made)
    facts = made.to_dict()
    if as_json:
        click.echo(json.dumps({**facts, "prediction": prediction.to_dict()}))
        return
    rows = {**facts["layers"], "total": {key: facts[key] for key in ("jobs", "done", "todo")}}
    width = max(map(len, rows))
    click.echo(f"{'layer':{width}} {'jobs':>8} {'done':>8} {'todo':>8}")
    for name, row in rows.items():
        click.echo(f"{name:{width}} {row['jobs']:8} {row['done']:8} {row['todo']:8}")
    if facts["todo"]:
        click.echo(
            f"about {format_duration(prediction.duration_s)} with one process, "
            f"{format_size(prediction.memory_bytes)} of memory, {format_size(prediction.store_bytes)} in the store, "
            f"{format_size(prediction.site_bytes)} for the site; from {prediction.basis}"
        )


@cli.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as changes.json of a version.")
def diff(before: Path, after: Path | None, as_json: bool) -> None:
    """Tell which units are new, gone or changed from BEFORE to AFTER, and by how much.

    Each is the folder of a build, which stands for the version it shows, or of one of its versions. With one folder of
    a build alone, the version it shows is compared with the one before.
    """
    from pipeline.changes import compare
    from pipeline.versions import last_two, side_of

    sides = (side_of(before), side_of(after)) if after is not None else last_two(before)
    changes = compare(*sides)
    if as_json:
        click.echo(changes.to_json().decode().rstrip())
        return
    for line in changes.lines():
        click.echo(line)


@cli.command()
@click.argument("config")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: build/NAME.")
@click.option("--days", type=click.IntRange(min=1), help="Default: store.keep_days of CONFIG.")
@click.option("--dry-run", is_flag=True, help="Tell what would be removed; remove nothing.")
def prune(config: str, out: Path | None, days: int | None, dry_run: bool) -> None:
    """Remove results that no kept version of any atlas in the store of CONFIG shows, once they are old.

    Every build that publishes does this too.
    """
    from pipeline.config import load_config
    from pipeline.progress import format_size
    from pipeline.retention import prune as run_prune
    from pipeline.workspace import open_store

    settings = load_config(config)
    store = open_store(settings, out or settings.default_out)
    pruned = run_prune(store, days or settings.store.keep_days, dry_run=dry_run)
    for name in (*pruned.recipes, *pruned.files):
        click.echo(name)
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(pruned.recipes)} recipes and {len(pruned.files)} files {verb}, {format_size(pruned.num_bytes)}")


@cli.command("dataset-pass")
@config_options
@click.option("--images", type=click.Path(path_type=Path), help="Folder, .tar or .txt list of pictures.")
def dataset_pass(out: Path | None, images: Path | None, **options: Any) -> None:
    """Show every picture of a data set to the network of CONFIG: statistics and exemplars of every unit.

    Resumes where it was interrupted. The last line printed is the folder of the result.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipeline.evidence import Given
    from pipeline.evidence import dataset_pass as run_dataset_pass

    config = _configured(**options)
    folder = out or config.default_out
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pictures", total=None, rate="")
        facts = run_dataset_pass(
            config,
            folder,
            Given(images=images),
            lambda p: bar.update(task, completed=p.done, total=p.total, rate=f"{p.per_s:.0f}/s"),
        )
    for line in facts["broken"]:
        click.echo(f"note: not read: {line}", err=True)
    click.echo(f"{facts['seen']} of {facts['images']} pictures seen, {len(facts['broken'])} could not be read")
    click.echo(folder / "dataset")


@cli.command()
@config_options
@click.argument("names", nargs=-1)
@click.option("--images", type=click.Path(path_type=Path), help="Data set of the dataset pass.")
@click.option("--publish", multiple=True, help="Pattern of its paths whose pixels may be published, repeatable.")
@click.option("--judge", type=click.Path(path_type=Path), help="Network that judges: .onnx, or SqueezeNet's .npz.")
@click.option("--judge-layer", help="Layer of the judge that gives features.")
@click.option("--training", multiple=True, type=click.Path(path_type=Path), help="Training pictures of the generator.")
@click.option("--held-out", multiple=True, type=click.Path(path_type=Path), help="Pictures it was not trained on.")
@click.option("--compare", multiple=True, type=click.Path(path_type=Path), help="Configuration of another built atlas.")
@click.option("--classes", type=click.Path(path_type=Path), help="Which class a folder means: lines `ID NAME`.")
def study(
    out: Path | None,
    names: tuple[str, ...],
    config: str,
    layers: str | None,
    units: str | None,
    seeds: int | None,
    runtime: str | None,
    **given: Any,
) -> None:
    """Run the studies NAMES, or all, over the finished atlas of CONFIG.

    A study whose inputs have not changed is kept; one with too few data, or without what it needs, is refused and says
    why. `neuron-atlas build` then publishes what they found.
    """
    from pipeline.evidence import Given, study_atlas

    settings = _configured(config, layers, units, seeds, runtime)
    for line in study_atlas(settings, out or settings.default_out, names, Given(**given)):
        click.echo(line)


@cli.command()
def engines() -> None:
    """List the runtimes that can run here, and why the others cannot."""
    from engine.runtimes import builders

    found = builders()
    width = max(map(len, found))
    for name, builder in found.items():
        state = builder.availability()
        click.echo(f"{name:{width}}  {'yes' if state.ok else 'no '}  {state.detail}")


@cli.command()
@click.argument("model")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
def layers(model: str, weights: Path | None) -> None:
    """List the layers of MODEL and their shapes.

    MODEL is bundled:NAME, an .onnx file, torchvision:NAME, timm:NAME or python:package.module:factory.
    """
    from pipeline.workspace import network_of

    found = network_of(model, weights).layers
    width = max((len(layer.name) for layer in found), default=0)
    for layer in found:
        click.echo(f"{layer.name:{width}}  {'x'.join(map(str, layer.shape))}")


@cli.command()
@click.argument("network")
@click.argument("layer")
@click.argument("units", nargs=-1)
@click.option("--generator", default="bundled:lite0-hybrid", show_default=True, help="bundled:NAME or an .onnx file.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Start codes per unit.")
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Steps of ascent.")
@click.option("--runtime", help="One that `neuron-atlas engines` lists; by default the fastest kind that can run here.")
@click.option("--mix", "mixes", multiple=True, help="Several units as one, repeatable: 'UNIT=WEIGHT; UNIT=-WEIGHT'.")
@click.option("--between", "ends", nargs=2, metavar="UNIT UNIT", help="Go from one unit to another.")
@click.option("--frames", type=click.IntRange(min=2), default=9, show_default=True, help="Pictures of --between.")
@click.option("--start", type=click.Path(path_type=Path), help="Picture to start from.")
@click.option("--position", type=(int, int), metavar="ROW COLUMN", help="Where in the layer; by default the centre.")
@click.option("--mask", type=click.Path(path_type=Path), help="Grey picture: where in the layer, resized to it.")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="File to write, repeatable: .png a sheet, .webp an animation, .json numbers and codes.",
)
def synthesize(outputs: tuple[Path, ...], **options: Any) -> None:
    """Make a contact sheet of the preferred inputs of a few UNITS of one LAYER: a row per unit, a column per seed.

    UNITS are numbers, ranges such as 0:8, or class names. With --mix, --between, --start, --position or --mask: of
    several units at once, of units to be avoided (a negative weight), from a picture, at a place.
    """
    if not (options["units"] or options["mixes"] or options["ends"]):
        raise click.UsageError("Missing argument 'UNITS...': give units, --mix or --between")
    from pipeline.synthesize import synthesize as run_synthesis

    for line in run_synthesis(outputs=outputs, **options):
        click.echo(line)
    for output in outputs:
        click.echo(output)


@cli.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--generator", default="bundled:lite0-hybrid", show_default=True, help="As in a configuration.")
@click.option("--steps", type=click.IntRange(min=0), default=60, show_default=True, help="Steps of refinement.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=0.1, show_default=True, help="Its rate.")
@click.option("--encoder", help="Where the generator's encoder is, if not where it was when it was trained.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch encoder.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="A PNG of images and reconstructions.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .npz file to write."
)
def encode(images: tuple[Path, ...], generator: str, output: Path, **options: Any) -> None:
    """Find the codes of IMAGES: by the generator's encoder, then refined by steps of reconstruction.

    Writes codes (N, code_dim), their distance from the images, and the files' names.
    """
    from export.generator import resolve_generator
    from pipeline.encode import encode_files

    for line in encode_files(resolve_generator(generator), images, output, **options):
        click.echo(line)
    click.echo(output)


@cli.command("train-generator")
@click.argument("encoder")
@click.option("--images", multiple=True, required=True, help="Folder or tar of images, repeatable: PATH[:WEIGHT[:PX]].")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option(
    "--code",
    type=click.Choice(["hybrid", "global", "spatial"]),
    default="hybrid",
    show_default=True,
    help="What the code is made of.",
)
@click.option("--global-layer", help="What is there; by default the last vector before the classes.")
@click.option("--spatial-layer", help="Where it is; by default the last feature map.")
@click.option("--taps", help="Feature maps to compare images in, separated by commas.")
@click.option("--resolution", type=click.IntRange(min=16), default=128, show_default=True, help="Pixels a side.")
@click.option("--steps", type=click.IntRange(min=1), default=6000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(min=2), default=32, show_default=True, help="Images of a step.")
@click.option(
    "--lr", type=click.FloatRange(min=0, min_open=True), default=5e-4, show_default=True, help="Learning rate."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
@click.option("--spatial-dim", type=click.IntRange(min=1), default=32, show_default=True, help="Whitened channels.")
@click.option(
    "--style-dim", type=click.IntRange(min=4), default=512, show_default=True, help="Width of the modulation."
)
@click.option("--every", type=click.IntRange(min=1), default=100, show_default=True, help="Steps between checkpoints.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of the convolutions."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--start-from", type=click.Path(path_type=Path), help="A generator whose weights are taken over.")
@click.option("--trained-on", help="What the images are and on what terms; goes into the card.")
@click.option("--title", help="Title of the card.")
def train_generator(encoder: str, weights: Path | None, **options: Any) -> None:
    """Train a generator matched to ENCODER, or go on training it, and write RUN/generator.onnx.

    ENCODER is what `neuron-atlas layers` takes. RUN holds the checkpoint, a log and sheets of samples: images, their
    reconstructions, and reconstructions without the spatial code. The last line printed is the generator's path.
    """
    from pipeline.training import train

    click.echo(train(encoder, weights, click.echo, **options))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("layer")
@click.argument("units", nargs=-1)
@click.option("--columns", type=click.IntRange(min=1), help="Pictures in a row; by default as many as rows.")
@click.option("--cell", "cell_px", type=click.IntRange(min=16), help="Side of a picture in a PNG, in pixels.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A .png or .pdf file."
)
def sheet(folder: Path, output: Path, **options: Any) -> None:
    """Write a contact sheet of a LAYER of the atlas built in FOLDER (build/NAME): every unit's best picture.

    UNITS are numbers and ranges such as 0:64, by default all. In a PDF the captions are text; it needs
    neuron-atlas[pdf].
    """
    from pipeline.export_sheet import write_sheet

    write_sheet(folder, output=output, **options)
    click.echo(output)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .tar file to write."
)
def pack(folder: Path, output: Path) -> None:
    """Write the atlas built in FOLDER (build/NAME) as one tar: the table, lossless pictures, codes."""
    from pipeline.atlas import open_atlas
    from pipeline.pack import write_pack

    click.echo(f"{write_pack(open_atlas(folder), output)} pictures")
    click.echo(output)


@cli.command()
@click.argument("source")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The ONNX file to write."
)
def export(source: str, weights: Path | None, output: Path) -> None:
    """Write the network that SOURCE names as an ONNX file with its layer names and its card."""
    from pipeline.table import replace_file
    from pipeline.workspace import network_of

    replace_file(output, network_of(source, weights).path.read_bytes())
    click.echo(output)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--of", help="The tensor that is differentiated; by default the only output.")
@click.option("--wrt", multiple=True, help="With respect to what, repeatable; by default the only float input.")
@click.option(
    "--cotangent",
    type=click.Choice(["input", "ones"]),
    default="input",
    show_default=True,
    help="A further input of the written model, or ones.",
)
@click.option("--shape", "shapes", multiple=True, help="An input with free dimensions, repeatable: NAME=1x3x224x224.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The ONNX file to write."
)
def gradient(model: Path, output: Path, **options: Any) -> None:
    """Write an ONNX model that computes gradients of the ONNX file MODEL.

    It takes the inputs of MODEL and an input named cotangent, of the shape of OF, and returns OF and, for every WRT,
    d_OF/d_WRT: the derivative of the sum of cotangent x OF. It can be differentiated again. Weights over 2 GB are
    written next to it.
    """
    from pipeline.gradient import write_gradient

    for line in write_gradient(model, output, **options):
        click.echo(line)


@cli.command()
@click.argument("model")
@click.option("--layer", required=True, help="A layer that `neuron-atlas layers` lists.")
@click.option("--unit", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the unit.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(model: str, layer: str, unit: int, weights: Path | None, as_json: bool) -> None:
    """Compare the compiled gradient of one unit with an independent one.

    MODEL is what `neuron-atlas layers` takes. A PyTorch network is compared with autograd on its module, an ONNX file
    (or any, where PyTorch is not installed) with finite differences; in float64, for an image of noise, at the centre
    of a feature map. Exits with 1 when the relative error is above 1e-4.
    """
    from pipeline.gradient import check_unit

    report = check_unit(model, layer, unit, weights)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        for name, value in report.to_dict().items():
            click.echo(f"{name:16} {value:.3g}" if isinstance(value, float) else f"{name:16} {value}")
    report.demand()


def main() -> None:
    """Run the command; exit with 0 done, 1 failure, 2 bad input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; return its exit code.

    A foreseen error is one sentence on stderr; an unforeseen one keeps its traceback.
    """
    try:
        cli.main(arguments, prog_name="neuron-atlas", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return InputError.exit_code
    except AtlasError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; run the same command again to resume", err=True)
        return INTERRUPTED
    except Exception:
        import traceback

        traceback.print_exc()
        click.secho("error: this is a bug; please report it with the lines above", fg="red", err=True)
        return AtlasError.exit_code
    return 0


def _configured(
    config: str, layers: str | None, units: str | None, seeds: int | None, runtime: str | None
) -> AtlasConfig:
    from pipeline.config import load_config, read_overrides

    return read_overrides(layers, units, seeds, runtime).apply(load_config(config))


if __name__ == "__main__":
    main()
