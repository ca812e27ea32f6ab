"""Give every ConvTranspose the same padding on both sides: ONNX Runtime's CUDA kernel has no other."""

from __future__ import annotations

import onnx_ir as ir

from export.passes.checked import check
from export.passes.shapes import shape_of
from export.serialise import parse, serialise
from export.vjp.emit import Emitter


def symmetric_conv_transposes(model: ir.Model) -> int:
    """``ConvTranspose(pads=[1, 2])`` becomes ``Slice(ConvTranspose(pads=[1, 1]))``: its padding only cuts its output.

    Requires: shapes are known.
    Ensures: every ConvTranspose without ``auto_pad`` has equal pads at both ends; the values are the same numbers.

    Returns:
        How many were changed.
    """
    changed = 0
    for node in list(model.graph):
        if node.op_type != "ConvTranspose" or "pads" not in node.attributes or "output_shape" in node.attributes:
            continue
        pads = list(node.attributes["pads"].as_ints())
        count = len(pads) // 2
        least = [min(a, b) for a, b in zip(pads[:count], pads[count:], strict=True)]
        starts = [a - c for a, c in zip(pads[:count], least, strict=True)]
        if pads == least + least:
            continue
        out = node.outputs[0]
        shape, name = shape_of(out), out.name
        ends = [start + size for start, size in zip(starts, shape[2:], strict=True)]
        extra = [a + b - 2 * c for a, b, c in zip(pads[:count], pads[count:], least, strict=True)]
        node.attributes["pads"] = ir.AttrInt64s("pads", least + least)
        uses, results = list(out.uses()), [i for i, v in enumerate(model.graph.outputs) if v is out]
        out.name = f"{name}/wide"
        out.shape = ir.Shape([*shape[:2], *(size + more for size, more in zip(shape[2:], extra, strict=True))])
        first = len(list(model.graph))
        e = Emitter(model.graph, f"{name}/cut")
        cut = e.op("Slice", out, e.ints(*starts), e.ints(*ends), e.ints(*range(2, 2 + count)))
        cut.name = name
        for use in uses:
            use.node.replace_input_with(use.idx, cut)
        for index in results:
            model.graph.outputs[index] = cut
        made = list(model.graph)[first:]
        model.graph.remove(made)
        model.graph.insert_after(node, made)
        changed += 1
    if changed:
        check(model)
    return changed


def with_symmetric_pads(model: bytes) -> bytes:
    """A serialised model with :func:`symmetric_conv_transposes`; the very same bytes if there is nothing to change.

    Raises:
        ModelError: it is no ONNX model.
    """
    read = parse(model, "it")
    if not symmetric_conv_transposes(read):
        return model
    return serialise(read)
