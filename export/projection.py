"""Units per hour on paper: from the arithmetic, the bytes and the kernels of each layer's step graph. Not measured.

    python -m export.projection torchvision:resnet50 --layer layer1.0 --layer layer3.0 --layer fc

Per step: ``max(flops / (peak * efficiency), bytes / (bandwidth * efficiency)) + kernels * overhead``.
Arithmetic is that of the products, two operations per multiply-addition; bytes are every weight read once and every
tensor that a product touches written and read once, in fp16; kernels are the products and the reductions, everything
between them taken as fused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import click
import onnx
import onnx_ir as ir

from export.arithmetic import multiply_additions
from export.generator import Generator, resolve_generator
from export.network import Network, resolve_network
from export.passes.shapes import infer_shapes, static_shape
from export.step import compile_step
from export.update import Ascent

PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
ARITHMETIC_EFFICIENCY = 0.35
BANDWIDTH_EFFICIENCY = 0.7
KERNEL_S = 2e-6
"""Assumed: share of the peaks that is reached, and the cost of a kernel inside a CUDA graph."""


@dataclass(frozen=True)
class Device:
    """Published dense peaks.

    Attributes:
        name: what people call it.
        flops: fp16 and bf16 tensor-core operations per second.
        bandwidth: bytes per second of its memory.
        flops_fp32: operations per second in fp32, TF32 off.
        pattern: regular expression found in the name that CUDA gives it.
    """

    name: str
    flops: float
    bandwidth: float
    flops_fp32: float = 0.0
    pattern: str = "$^"


DEVICES = (
    Device("A100 SXM", 312e12, 2.0e12, 19.5e12, "A100-SXM4-80GB"),
    Device("H100 SXM", 989e12, 3.35e12, 67e12, r"H100 80GB HBM3"),
    Device("L4", 121e12, 0.3e12, 30.3e12, r"\bL4\b"),
)
"""Those that the projection is for."""
KNOWN = (
    *DEVICES,
    Device("A100 40 GB", 312e12, 1.555e12, 19.5e12, "A100-(SXM4|PCIE)-40GB"),
    Device("A100 PCIe", 312e12, 1.935e12, 19.5e12, "A100 80GB PCIe"),
    Device("H100 PCIe", 756e12, 2.0e12, 51e12, "H100 PCIe"),
    Device("H200", 989e12, 4.8e12, 67e12, r"\bH200\b"),
    Device("L40S", 362e12, 0.864e12, 91.6e12, r"\bL40S\b"),
    Device("A10", 125e12, 0.6e12, 31.2e12, r"\bA10G?\b"),
    Device("RTX 4090", 165e12, 1.008e12, 82.6e12, r"RTX 4090$"),
)
"""Those whose share of the roofline can be told."""


def device_named(name: str) -> Device | None:
    """The device that CUDA calls so, None if its peaks are not known here."""
    return next((device for device in KNOWN if re.search(device.pattern, name)), None)


@dataclass(frozen=True)
class Load:
    """One step of the whole batch.

    Attributes:
        flops: floating-point operations.
        num_bytes: moved to and from memory.
        kernels: launches.
    """

    flops: float
    num_bytes: float
    kernels: int

    def roofline_s(self, device: Device, precision: str) -> tuple[float, str]:
        """The least time of one step at the device's peaks, and what sets it: ``arithmetic`` or ``memory``."""
        arithmetic = self.flops / (device.flops_fp32 if precision == "fp32" else device.flops)
        memory = self.num_bytes / device.bandwidth
        return (arithmetic, "arithmetic") if arithmetic > memory else (memory, "memory")

    def seconds(self, device: Device) -> float:
        """Of one step on a device, by the formula above."""
        arithmetic = self.flops / (device.flops * ARITHMETIC_EFFICIENCY)
        memory = self.num_bytes / (device.bandwidth * BANDWIDTH_EFFICIENCY)
        return max(arithmetic, memory) + self.kernels * KERNEL_S


def load_of(step: bytes, bytes_per_number: int = 2) -> Load:
    """The load of a serialised step graph."""
    model = ir.from_proto(onnx.load_from_string(step))
    infer_shapes(model)
    products = [node for node in model.graph if node.op_type in PRODUCTS]
    reductions = [node for node in model.graph if node.op_type.startswith("Reduce") or node.op_type == "Softmax"]
    values = {v for node in products for v in (*node.inputs, *node.outputs) if v is not None}
    sizes = [math.prod(static_shape(v) or ()) * (1 if v.is_initializer() or v.is_graph_input() else 2) for v in values]
    return Load(
        2.0 * multiply_additions(products), float(sum(sizes) * bytes_per_number), len(products) + len(reductions)
    )


def layer_load(network: Network, generator: Generator, layer: str, batch: int) -> Load:
    """The load of a layer's step, the cone included."""
    return load_of(compile_step(network, generator, layer, batch=batch, ascent=Ascent()).step)


@click.command()
@click.argument("source")
@click.option("--layer", "layers", multiple=True, required=True)
@click.option("--generator", default="bundled:lite0-hybrid", show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--steps", default=80, show_default=True, help="Steps of a job.")
@click.option("--units", default=27560, show_default=True, help="Of a night, spread evenly over the layers.")
def main(source: str, layers: tuple[str, ...], generator: str, batch: int, steps: int, units: int) -> None:
    """Print the projection, and the assumptions it stands on."""
    cache = Path("build") / "networks"
    network, prior = resolve_network(source, cache=cache), resolve_generator(generator, cache=cache)
    click.echo(
        f"On paper, not measured. fp16, batch {batch}, {steps} steps a unit; assumed: {ARITHMETIC_EFFICIENCY:.0%} of "
        "peak arithmetic, "
        f"{BANDWIDTH_EFFICIENCY:.0%} of peak bandwidth, {KERNEL_S * 1e6:.0f} us a kernel, all else fused."
    )
    per_unit: dict[str, list[float]] = {device.name: [] for device in DEVICES}
    for layer in layers:
        load = layer_load(network, prior, layer, batch)
        for device in DEVICES:
            per_unit[device.name].append(steps * load.seconds(device) / batch)
        rates = ", ".join(f"{d.name} {3600 / per_unit[d.name][-1]:,.0f}" for d in DEVICES)
        click.echo(
            f"{layer}: {load.flops / batch / 1e9:.2f} GFLOP an image-step, {load.num_bytes / 1e6:.0f} MB and "
            f"{load.kernels} kernels a step; units/hour {rates}"
        )
    for name, seconds in per_unit.items():
        click.echo(f"{name}: {units:,} units in {units * sum(seconds) / len(seconds) / 3600:.2f} hours")


if __name__ == "__main__":
    main()
