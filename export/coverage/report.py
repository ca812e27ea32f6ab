"""The results as a page of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from export.coverage.measure import Result

HEAD = """# Gradient coverage

Made by `make coverage`; do not edit. For every network: it is exported from PyTorch as it comes, its gradient with
respect to the image is compiled, and a random cotangent of all logits is pulled back. Weights are random; BatchNorm has
the statistics of a pass over noise, moved at random.

- **float64**: relative L2 error of the gradient graph, evaluated in float64, against autograd in float64: PyTorch runs
  and differentiates the exported graph, operator by operator; 1e-9 is allowed. In brackets against the PyTorch module,
  whose constants the exporter rounds to float32 in places; 1e-4 is allowed, or what rounding everything to float32 does
  to PyTorch's own gradient.
- **float32**: that of the float32 graph under ONNX Runtime against the module in float64, and of PyTorch's own float32
  gradient. Above 1e-4 it is ReLUs and maxima that rounding puts on the other side of their kink, in PyTorch as here.
  The best of up to five images; 1e-4 or ten times PyTorch's error is allowed.
- **nodes**: of the forward graph and of the gradient. **compile**: static shapes, folding, gradient and clean-up.
- **TensorRT**: what an allow-list made from one-operator builds refuses, network and gradient together; `-` is nothing.
"""


def totals(results: Sequence[Result]) -> list[str]:
    """One line per collection: ``torchvision: N of M``."""
    kinds = Counter(r.source.partition(":")[0] for r in results)
    good = Counter(r.source.partition(":")[0] for r in results if r.status == "exact")
    return [f"{kind}: {good[kind]} of {kinds[kind]}" for kind in sorted(kinds, key=lambda k: k != "torchvision")]


def page(results: Sequence[Result], versions: str) -> str:
    """The whole page; rows in the order given."""
    lines = [HEAD, f"Measured with {versions}.", "", *(f"**{line}**  " for line in totals(results))]
    for kind in dict.fromkeys(r.source.partition(":")[0] for r in results):
        own = [r for r in results if r.source.startswith(f"{kind}:")]
        lines += ["", f"## {kind}", ""]
        heads = "network, M parameters, px, nodes, float64 (module), float32 (PyTorch's), compile, TensorRT, operators"
        lines += [f"| {heads.replace(', ', ' | ')} |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"]
        lines += [_row(r) for r in own if r.error_64 is not None]
        failed = [r for r in own if r.status != "exact"]
        if failed:
            lines += ["", "Not exact:", ""]
            lines += [f"- `{r.source}` ({r.status}): {r.reason}" for r in failed]
    return "\n".join(lines) + "\n"


def _row(r: Result) -> str:
    name = r.source.partition(":")[2]
    single = "-" if r.error_32 is None else f"{r.error_32:.0e} ({r.torch_32:.0e})"
    operators = " ".join(
        f"{op}·{n}" if n > 1 else op for op, n in sorted(r.operators.items(), key=lambda i: (-i[1], i[0]))
    )
    refusals = "; ".join(r.refusals) or "-"
    cells = [
        name,
        f"{r.parameters / 1e6:.1f}",
        str(r.image_px),
        f"{r.num_forward} + {r.num_gradient}",
        f"{r.error_64:.0e} ({r.module_64:.0e})",
        single,
        f"{r.compile_s:.1f} s",
        refusals,
        operators,
    ]
    return f"| {' | '.join(cells)} |"
