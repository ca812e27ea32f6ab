"""Running forward graphs and the dataset graph: ONNX Runtime on the CPU, buffers bound once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from engine.ort import OnnxRuntimeModel

RUNTIME = "onnxruntime"
Array = npt.NDArray[np.generic]


class Forward:
    """A loaded graph whose inputs and outputs have a row per picture or code, as those of
    :func:`export.forward.compile_forward` and :func:`export.step.compile_decode`; pads to its fixed batch by itself.
    """

    def __init__(self, model: bytes, threads: int = 0) -> None:
        """Raises EngineError if the runtime refuses the graph."""
        loaded = OnnxRuntimeModel(model, "forward", threads)
        self._inputs = {name: np.zeros(spec.shape, _dtype(spec.dtype)) for name, spec in loaded.inputs.items()}
        self._outputs = {name: np.zeros(spec.shape, _dtype(spec.dtype)) for name, spec in loaded.outputs.items()}
        self._run = loaded.bind(self._inputs, self._outputs)
        self.batch = len(next(iter(self._inputs.values())))

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Run any number of rows; returns copies, one row per row of the inputs."""
        count = len(next(iter(inputs.values())))
        found = {name: np.empty((count, *array.shape[1:]), array.dtype) for name, array in self._outputs.items()}
        for start in range(0, count, self.batch):
            size = min(self.batch, count - start)
            for name, buffer in self._inputs.items():
                buffer[:size] = inputs[name][start : start + size]
                buffer[size:] = 0
            self._run()
            for name, array in found.items():
                array[start : start + size] = self._outputs[name][:size]
        return found


class Stateful:
    """A graph whose outputs ``NAME.next`` are its inputs NAME of the next run; state ping-pongs between two buffers."""

    def __init__(self, model: bytes, state: Mapping[str, Array], constants: Mapping[str, Array], threads: int) -> None:
        """Args:
        model: the graph.
        state: first value of every state input.
        constants: values of inputs that change seldom; :meth:`set` changes them.
        threads: 0 for all cores.

        Raises:
            EngineError: the runtime refuses the graph.
        """
        loaded = OnnxRuntimeModel(model, "dataset", threads)
        self._now = 0
        self._states = tuple({name: np.ascontiguousarray(a).copy() for name, a in state.items()} for _ in range(2))
        given = {n: np.zeros(s.shape, _dtype(s.dtype)) for n, s in loaded.inputs.items() if n not in state}
        self.outputs = {
            n: np.zeros(s.shape, _dtype(s.dtype)) for n, s in loaded.outputs.items() if not n.endswith(".next")
        }
        self._given = given
        self.set(**constants)
        self._runs = tuple(self._bind(loaded, source) for source in (0, 1))

    def _bind(self, loaded: OnnxRuntimeModel, source: int) -> Callable[[], None]:
        after = {f"{name}.next": array for name, array in self._states[1 - source].items()}
        return loaded.bind({**self._given, **self._states[source]}, {**self.outputs, **after})

    def set(self, **values: Array) -> None:
        """Change inputs in place."""
        for name, value in values.items():
            self._given[name][...] = value

    def step(self, **inputs: Array) -> Mapping[str, Array]:
        """Run once; the outputs are overwritten by the next run."""
        self.set(**inputs)
        self._runs[self._now]()
        self._now = 1 - self._now
        return self.outputs

    @property
    def state(self) -> Mapping[str, Array]:
        """The state after the last step; overwritten by the next but one."""
        return self._states[self._now]


def _dtype(name: str) -> np.dtype[np.generic]:
    return np.dtype({"tensor(uint8)": "uint8"}.get(name, name))
