"""What the first person with a GPU runs: `make gpu-check`. Prints one page, and writes it to build/gpu-check/page.txt.

    python -m tests.bench.gpu_check [--runtime NAME] [--layer LAYER] [--batch 64] [--no-tests]

For every runtime that finds a GPU, in every precision it has, on step graphs of the demo's network:

    parity     against ONNX Runtime on the CPU in fp32: activation, gradient, the move of one step, pixels
    capture    the same bytes with CUDA graphs and without
    slots      the same bytes whatever slot a job is in, whoever shares the batch
    rebuild    new weights: the engine is built again (it is not refitted), and follows them
    cache      built again with the same weights: the same bytes, from the cache where the runtime has one
    speed      milliseconds a step, units an hour, and the share of what the GPU's peaks allow (export/projection.py)

The last line is `gpu-check: passed N, failed M`; exit status 1 if anything failed, 2 where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx

from engine.cuda.builder import device_of
from engine.cuda.device import load_cuda
from engine.invariance import dependent_slots
from engine.parity import ParityReport, compare, probe
from engine.protocol import Builder, Runner
from engine.runtimes import builders
from engine.slots import Job
from engine.start import start_code
from export.errors import AtlasError
from export.generator import resolve_generator
from export.manifest import StepGraph
from export.network import resolve_network
from export.prior import CodePrior
from export.step import compile_step
from export.update import Ascent
from pipeline.engines import NUM_PROBED, REFERENCE, TOLERANCE
from tests.bench.gpu_page import STEPS_A_UNIT, Row, table, verdict

FOLDER = Path("build") / "gpu-check"
LAYERS = ("_blocks.4", "_blocks.14", "_fc")


@dataclass(frozen=True)
class Subject:
    """What is checked: a step graph, where its codes are drawn, and the runtime it is compared with."""

    graph: StepGraph
    prior: CodePrior
    reference: Builder

    def build(self, builder: Builder, precision: str, folder: Path, *, graphs: bool = True) -> Runner:
        return builder.build(self.graph, {"precision": precision, "engine_cache": str(folder), "graphs": graphs})

    def compare(self, runner: Runner) -> ParityReport:
        with self.reference.build(self.graph, {"lanes": 1}) as reference:
            return compare(*(probe(engine, self.prior, NUM_PROBED) for engine in (runner, reference)))

    def reweighted(self) -> Subject:
        """The same network after a night's training, so to speak: every weight a little different."""
        graph = dataclasses.replace(self.graph, step=reweighted(self.graph.step), decode=reweighted(self.graph.decode))
        return dataclasses.replace(self, graph=graph)


def reweighted(model: bytes) -> bytes:
    """The model with every float32 weight of two dimensions or more made 2 % larger."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            larger = onnx.numpy_helper.to_array(tensor) * np.float32(1.02)
            tensor.CopyFrom(onnx.numpy_helper.from_array(larger, tensor.name))
    changed: bytes = proto.SerializeToString()
    return changed


def check(subject: Subject, builder: Builder, precision: str, folder: Path, clock: Callable[[], float]) -> Row:
    """Run every check; one that raises has failed, and the others go on."""
    row = Row(builder.name, precision)
    values, moves = TOLERANCE[precision]
    built: dict[str, float] = {}
    left: dict[str, bytes] = {}

    def build(what: str, of: Subject = subject, *, graphs: bool = True) -> Runner:
        began = clock()
        runner = of.build(builder, precision, folder, graphs=graphs)
        built[what] = clock() - began
        return runner

    def parity() -> tuple[bool, str]:
        with build("first") as runner:
            report = subject.compare(runner)
        numbers = (report.activation, report.gradient, report.move, report.image)
        return report.ok(values, moves), " ".join(f"{number:.0e}" for number in numbers)

    def capture() -> tuple[bool, str]:
        for graphs in (True, False):
            with build(f"graphs {graphs}", graphs=graphs) as runner:
                left[str(graphs)] = walk(runner, subject.prior)
        return left["True"] == left["False"], "same" if left["True"] == left["False"] else "differs"

    def slots() -> tuple[bool, str]:
        with build("slots") as runner:
            wrong = dependent_slots(runner, subject.prior)
        return not wrong, f"{len(wrong)} depend" if wrong else "same"

    def cache() -> tuple[bool, str]:
        with build("again") as runner:
            same = walk(runner, subject.prior) == left.get("True")
        return same, f"{'same' if same else 'differs'}, {built['again']:.0f} s after {built.get('first', 0):.0f}"

    def rebuild() -> tuple[bool, str]:
        changed = subject.reweighted()
        with build("reweighted", changed) as runner:
            report, other = changed.compare(runner), walk(runner, subject.prior) != left.get("True")
        follows = report.ok(values, moves) and other
        return follows, f"{'follows' if follows else 'stale'}, {built['reweighted']:.0f} s"

    def speed() -> tuple[bool, str]:
        with build("speed") as runner:
            row.step_s = seconds_a_step(runner, clock)
        return row.step_s > 0, ""

    for name, run in {
        "parity": parity, "capture": capture, "slots": slots, "cache": cache, "rebuild": rebuild, "speed": speed,
    }.items():  # fmt: skip
        try:
            row.results[name] = run()
        except (AtlasError, RuntimeError, OSError) as error:
            row.results[name] = (False, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return row


def walk(runner: Runner, prior: CodePrior) -> bytes:
    """What some steps, a refill and more steps leave behind."""
    rng = np.random.default_rng(0)
    count = runner.num_slots
    units = rng.integers(0, runner.manifest.num_units, count).tolist()
    codes = np.stack([start_code(prior, "gpu-check", Job(unit, seed), 1.0) for seed, unit in enumerate(units)])
    runner.fill(range(count), units, codes)
    runner.step(5)
    runner.fill([count - 1], units[:1], codes[:1])
    for steps in (1, 5, 5):
        runner.step(steps)
    scalars = runner.scalars()
    return runner.best_codes(range(count)).tobytes() + scalars.activation.tobytes() + runner.decode(codes[:1]).tobytes()


def seconds_a_step(runner: Runner, clock: Callable[[], float], count: int = 20, rounds: int = 7) -> float:
    """The median over rounds of ``count`` steps, the reading of the scalars included, as in a build."""
    spent = []
    for _ in range(rounds + 1):
        began = clock()
        runner.step(count)
        runner.scalars()
        spent.append((clock() - began) / count)
    return statistics.median(spent[1:])


def marked_tests(folder: Path) -> tuple[bool, str]:
    """The tests that need a GPU, and conformance; their output goes to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "tests/engine/cuda", "tests/engine/test_ort.py",
         "tests/conformance", "-k", "tensorrt or cuda or gpu"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    (folder / "tests.txt").write_text(done.stdout + done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return done.returncode == 0, f"{lines[-1] if lines else 'no output'} ({folder / 'tests.txt'})"


def page(
    gpu: str,
    runtimes: Mapping[str, Builder],
    subjects: Mapping[str, Subject],
    folder: Path,
    tests: tuple[bool, str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[str, int]:
    """Check everything; the page, and the exit status."""
    versions = "; ".join(f"{name} {builder.availability().detail}" for name, builder in runtimes.items())
    lines = [f"neuron-atlas on {gpu}", versions]
    if tests is not None:
        lines.append(f"tests {'passed' if tests[0] else 'FAILED'}: {tests[1]}")
    everything: list[Row] = []
    for title, subject in subjects.items():
        rows = [
            check(subject, builder, precision, folder / "engines", clock)
            for builder in runtimes.values()
            for precision in builder.precisions()
        ]
        lines += table(title, subject.graph, rows, gpu)
        everything += rows
    last, status = verdict(everything, tests)
    return "\n".join([*lines, *last]), status


def demo_subjects(layers: Sequence[str], batch: int) -> dict[str, Subject]:
    """Step graphs of the demo's network through the bundled generator."""
    network, generator = resolve_network("bundled:lite0", cache=FOLDER), resolve_generator("bundled:lite0-hybrid")
    ascent = Ascent(steps=STEPS_A_UNIT, jitter_px=4)
    return {
        f"lite0 {layer}": Subject(
            compile_step(network, generator, layer, batch=batch, ascent=ascent), generator.prior, builders()[REFERENCE]
        )
        for layer in layers
    }


@click.command()
@click.option("--runtime", "names", multiple=True, help="Only these; otherwise all that find a GPU.")
@click.option("--layer", "layers", multiple=True, default=LAYERS, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--tests/--no-tests", default=True, show_default=True, help="Run the marked tests first.")
def main(names: tuple[str, ...], layers: tuple[str, ...], batch: int, tests: bool) -> None:
    """Check the runtimes on this machine's GPU and print one page."""
    wanted = {n: b for n, b in builders().items() if b.device == "gpu" and (not names or n in names)}
    states = {name: builder.availability() for name, builder in wanted.items()}
    able = {name: wanted[name] for name, state in states.items() if state.ok}
    for name, state in states.items():
        if not state.ok:
            click.echo(f"{name} is left out: {state.detail}")
    if not able:
        raise SystemExit(2)
    text, status = page(
        device_of(load_cuda()), able, demo_subjects(layers, batch), FOLDER, marked_tests(FOLDER) if tests else None
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "page.txt").write_text(text + "\n")
    click.echo(text)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
