"""TensorRT for RTX on an NVIDIA GPU; it also builds engines where there is none. Not yet run on a GPU."""

from engine.cuda.builder import TensorRtBuilder

BUILDER = TensorRtBuilder("tensorrt_rtx", extra="tensorrt-rtx", rank=5)
