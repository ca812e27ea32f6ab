"""Measure every network of the lists and write the page. Each network has a process of its own; results are kept.

python -m export.coverage                       # all; those measured before with this compiler are not measured again
python -m export.coverage timm:convnext_tiny    # print the result of some
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click

from export.coverage.report import page, totals

FAMILIES = Path(__file__).with_name("families.txt")
TIMEOUT_S = 1800


def sources() -> list[str]:
    """Every classification network of torchvision and one of every timm family."""
    from torchvision import models

    rows = [line.split() for line in FAMILIES.read_text().splitlines() if not line.startswith("#")]
    names = models.list_models(module=models)
    return [f"torchvision:{n}" for n in names] + [f"timm:{name}" for _, name in rows]


def compiler_digest() -> str:
    """Changes with the code that a result depends on and with the libraries that make the graphs."""
    root = Path(__file__).parents[1]
    files = [f for part in ("vjp", "passes", "sources", "coverage") for f in sorted((root / part).rglob("*.py"))]
    text = b"".join(f.read_bytes() for f in files if f.name not in ("report.py", "__main__.py"))
    return hashlib.sha256(text + versions().encode()).hexdigest()[:12]


def versions() -> str:
    return ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "onnxscript", "onnxruntime")
    )


@click.command()
@click.argument("chosen", nargs=-1)
@click.option("--out", default="docs/gradient-coverage.md", type=click.Path(path_type=Path), show_default=True)
@click.option("--cache", default="build/coverage", type=click.Path(path_type=Path), show_default=True)
@click.option("--reuse", is_flag=True, help="accept results of an earlier compiler")
@click.option("--here", is_flag=True, hidden=True)
def main(chosen: tuple[str, ...], out: Path, cache: Path, reuse: bool, here: bool) -> None:
    """Measure the networks; exit 1 when a gradient is wrong."""
    from export.coverage.measure import Result, judge, measure

    if here:
        click.echo(json.dumps(measure(chosen[0]).to_dict()))
        return
    names = list(chosen) or sources()
    digest = compiler_digest()
    cache.mkdir(parents=True, exist_ok=True)
    results = []
    for number, name in enumerate(names, 1):
        kept = cache / f"{name.replace(':', '-')}.json"
        record = json.loads(kept.read_text()) if kept.exists() else None
        if record is None or (record["compiler"] != digest and not reuse):
            record = {"compiler": digest, "result": _in_a_process(name)}
            kept.write_text(json.dumps(record))
        result = Result(**record["result"])
        judge(result)
        results.append(result)
        error = "" if result.error_64 is None else f" {result.error_64:.0e}"
        click.echo(f"{number}/{len(names)} {name}: {result.status}{error} {result.reason}")
    if not chosen:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(results, versions()))
        click.echo(out)
    for line in totals(results):
        click.echo(line)
    sys.exit(any(r.status == "wrong" for r in results))  # a failure is a row of the page, a wrong gradient is not


def _in_a_process(name: str) -> dict[str, object]:
    command = [sys.executable, "-W", "ignore", "-m", "export.coverage", "--here", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"source": name, "reason": f"took more than {TIMEOUT_S} s"}
    lines = done.stdout.strip().splitlines()
    try:
        result: dict[str, object] = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"source": name, "reason": f"the process ended with {done.returncode}: {last[:200]}"}
    return result


if __name__ == "__main__":
    main()
