"""A recipe to vary."""

from __future__ import annotations

from pipeline.recipe import Recipe


def make_recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "network": "a" * 64,
        "generator": "b" * 64,
        "prior": "c" * 64,
        "layer": "conv1",
        "target": "conv1/out",
        "fallback": None,
        "ascent": {"kind": "adam", "steps": 20, "lr": 0.1, "lr_end": 0.0},
        "stop": {"max_steps": 20, "tolerance": 0.0},
        "poll_every": 5,
        "start_scale": 0.1,
        "runtime": "onnxruntime",
        "runtime_version": "1.2.3",
        "precision": "fp32",
        "batch": 4,
        "seed": 0,
    }
    return Recipe(**(fields | changes))  # type: ignore[arg-type]
