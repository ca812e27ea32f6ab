"""The loop on an NVIDIA GPU: checked CUDA calls, buffers, graph capture and the runner. Not yet run on a GPU."""
