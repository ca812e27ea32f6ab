"""Units per hour on paper: from the arithmetic, the bytes and the kernels of each layer's step graph. Not measured.

    python -m export.projection torchvision:resnet50 [--layer fc ...] [--generator deepsim:fc6]

Per step: ``max(flops / (peak * efficiency), bytes / (bandwidth * efficiency)) + kernels * overhead``.
Arithmetic is that of the products, two operations per multiply-addition; bytes are every weight read once and every
tensor that a product touches written and read once; kernels are the products and the reductions, everything
between them taken as fused. The last lines are the minutes that all units of these layers take: a night's budget.
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
from export.network import LayerInfo, Network, resolve_network
from export.passes.shapes import infer_shapes, static_shape
from export.step import compile_decode, compile_step
from export.update import Ascent

PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
ARITHMETIC_EFFICIENCY = 0.35
BANDWIDTH_EFFICIENCY = 0.7
KERNEL_S = 2e-6
BYTES = {"fp16": 2, "fp32": 4}
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

    def seconds(self, device: Device, precision: str = "fp16") -> float:
        """Of one step on a device, by the formula above; of a load counted in fp16."""
        arithmetic = self.flops / ((device.flops_fp32 if precision == "fp32" else device.flops) * ARITHMETIC_EFFICIENCY)
        memory = self.num_bytes * BYTES[precision] / BYTES["fp16"] / (device.bandwidth * BANDWIDTH_EFFICIENCY)
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


def layer_load(network: Network, generator: Generator, layer: str, batch: int, decode: bytes | None = None) -> Load:
    """The load of a layer's step in fp16, the cone included."""
    return load_of(compile_step(network, generator, layer, batch=batch, ascent=Ascent(), decode=decode).step)


def layers_with_weights(network: Network) -> list[LayerInfo]:
    """Every convolution and every matrix product with a name, once: ResNet-50 has 54, of 27,560 units."""
    made_by = {value.name: node.op_type for node in network.model(1).graph for value in node.outputs}
    found = {layer.tensor: layer for layer in network.layers if made_by[layer.tensor] in PRODUCTS}
    return list(found.values())


@click.command()
@click.argument("source")
@click.option("--layer", "names", multiple=True, help="Only these; otherwise every one that has weights.")
@click.option("--generator", default="bundled:lite0-hybrid", show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--steps", default=Ascent().steps, show_default=True, help="Steps of a job.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(list(BYTES)), default=list(BYTES))
def main(
    source: str, names: tuple[str, ...], generator: str, batch: int, steps: int, precisions: tuple[str, ...]
) -> None:
    """Print the projection, and the assumptions it stands on."""
    cache = Path("build") / "networks"
    network, prior = resolve_network(source, cache=cache), resolve_generator(generator, cache=cache)
    layers = [network.layer(name) for name in names] or layers_with_weights(network)
    click.echo(
        f"On paper, not measured. Batch {batch}, {steps} steps a unit, one seed; assumed: {ARITHMETIC_EFFICIENCY:.0%} "
        f"of peak arithmetic (fp32 without TF32), {BANDWIDTH_EFFICIENCY:.0%} of peak bandwidth, "
        f"{KERNEL_S * 1e6:.0f} us a kernel, all else fused. Steps "
        "alone: engines that are built, pictures and files come on top."
    )
    decode = compile_decode(prior, batch)
    hours = {(precision, device.name): 0.0 for precision in precisions for device in DEVICES}
    for layer in layers:
        load = layer_load(network, prior, layer.name, batch, decode)
        texts = []
        for precision in precisions:
            rates = {device.name: 3600 * batch / (steps * load.seconds(device, precision)) for device in DEVICES}
            for name, rate in rates.items():
                hours[precision, name] += layer.num_units / rate
            texts.append(f"{precision} {', '.join(f'{name} {rate:,.0f}' for name, rate in rates.items())}")
        click.echo(
            f"{layer.name}: {layer.num_units} units, {load.flops / batch / 1e9:.2f} GFLOP an image-step, "
            f"{load.num_bytes / 1e6:.0f} MB (fp16) and {load.kernels} kernels a step; units/hour {'; '.join(texts)}"
        )
    units = sum(layer.num_units for layer in layers)
    for (precision, name), spent in hours.items():
        click.echo(f"{name}, {precision}: {units:,} units of {len(layers)} layers in {60 * spent:.1f} minutes of steps")


if __name__ == "__main__":
    main()
