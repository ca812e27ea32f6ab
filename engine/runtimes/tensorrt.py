"""TensorRT 11 on an NVIDIA GPU. Not yet run on one; see deploy/gpu.md."""

from engine.cuda.builder import TensorRtBuilder

BUILDER = TensorRtBuilder("tensorrt", extra="tensorrt", rank=0)
