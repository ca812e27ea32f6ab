"""CUDA libraries that do nothing, made with gcc: enough for ONNX Runtime to load its CUDA provider without a GPU.

The provider then says for real which nodes it has kernels for, allocates, copies and captures. "Device" memory is host
memory; kernels do not run, so that no value means anything.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections import defaultdict
from pathlib import Path

LIBRARIES = ("libcuda.so.1", "libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10")
DEVICE: dict[str, object] = {
    "name": b"Stub".ljust(256, b"\0"), "major": 8, "minor": 9, "multiProcessorCount": 58,
    "totalGlobalMem": 16 << 30, "warpSize": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerMultiProcessor": 1536,
    "sharedMemPerBlock": 48 << 10,
    "sharedMemPerBlockOptin": 99 << 10, "regsPerBlock": 1 << 16,
}  # fmt: skip
SCANNED_BYTES = 900
"""Of cudaDeviceProp; smaller than it is in CUDA 13."""

RUNTIME = """
int cudaGetDeviceCount(int *n) { *n = 1; return 0; }
int cudaGetDevice(int *n) { *n = 0; return 0; }
int cudaMalloc(void **p, size_t n) { return posix_memalign(p, 256, n ? n : 1); }
int cudaMallocHost(void **p, size_t n) { return posix_memalign(p, 256, n ? n : 1); }
int cudaHostAlloc(void **p, size_t n, unsigned flags) { return posix_memalign(p, 256, n ? n : 1); }
int cudaFree(void *p) { free(p); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaFreeAsync(void *p, void *stream) { free(p); return 0; }
int cudaMemcpy(void *to, const void *from, size_t n, int kind) { memcpy(to, from, n); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t n, int kind, void *stream) { memcpy(to, from, n); return 0; }
int cudaMemset(void *p, int value, size_t n) { memset(p, value, n); return 0; }
int cudaMemsetAsync(void *p, int value, size_t n, void *stream) { memset(p, value, n); return 0; }
int cudaMemGetInfo(size_t *free, size_t *total) { *free = *total = (size_t)16 << 30; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaStreamCreate(void **made) { *made = malloc(8); return 0; }
int cudaStreamCreateWithFlags(void **made, unsigned flags) { *made = malloc(8); return 0; }
int cudaEventCreate(void **made) { *made = malloc(8); return 0; }
int cudaEventCreateWithFlags(void **made, unsigned flags) { *made = malloc(8); return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int captures, launches;
int cudaStreamEndCapture(void *stream, void **graph) { captures++; *graph = malloc(8); return 0; }
int cudaGraphInstantiate(void **made, void *graph, unsigned long long flags) { *made = malloc(8); return 0; }
int cudaGraphLaunch(void *graph, void *stream) { launches++; return 0; }
const char *cudaGetErrorString(int error) { return "stub"; }
const char *cudaGetErrorName(int error) { return "stub"; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 9 : attribute == 10 ? 32 : 1024;
    return 0;
}
void **__cudaRegisterFatBinary(void *binary) { static void *handle[4]; return handle; }
"""
HANDLES = """
int cublasCreate_v2(void **made) { *made = malloc(64); return 0; }
int cublasLtCreate(void **made) { *made = malloc(64); return 0; }
"""


def load_stubs(provider: Path, folder: Path) -> ctypes.CDLL:
    """Make the libraries that ONNX Runtime's CUDA provider links, and load them.

    Args:
        provider: ``libonnxruntime_providers_cuda.so``.
        folder: where to make them.

    Returns:
        The CUDA runtime among them; ``captures`` and ``launches`` count.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _undefined(provider)
    loaded = {}
    for library in LIBRARIES:
        written = {"libcudart.so.13": RUNTIME + _properties(), "libcublas.so.13": HANDLES}.get(library, "")
        known = set(re.findall(r"\b(\w+)\([^;{]*\) \{", written))
        names = sorted(wanted[library] - known)
        source, versions = folder / f"{library}.c", folder / f"{library}.map"
        head = "#include <stdlib.h>\n#include <string.h>\n"
        source.write_text(head + written + "".join(f"int {name}(void) {{ return 0; }}\n" for name in names))
        versions.write_text(f"{library} {{ global: *; }};\n")
        options = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{library}", f"-Wl,--version-script,{versions}"]
        subprocess.run(["gcc", *options, str(source), "-o", str(folder / library)], check=True)
        loaded[library] = ctypes.CDLL(str(folder / library), mode=ctypes.RTLD_GLOBAL)
    return loaded["libcudart.so.13"]


def _undefined(provider: Path) -> defaultdict[str, set[str]]:
    """Names that the provider needs, by library."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(provider)], capture_output=True, text=True, check=True)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in listed.stdout.splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library.lstrip("@") in LIBRARIES:
            found[library.lstrip("@")].add(name)
        elif re.match(r"cu[A-Z]", name):
            found["libcuda.so.1"].add(name)
    return found


def _properties() -> str:
    """``cudaGetDeviceProperties``, which writes DEVICE where cuda-python's own structure has its fields."""
    from cuda.bindings import runtime

    writes = []
    for name, value in DEVICE.items():
        before, after = runtime.cudaDeviceProp(), runtime.cudaDeviceProp()
        setattr(after, name, value)
        contents = [ctypes.string_at(made.getPtr(), SCANNED_BYTES) for made in (before, after)]
        changed = [i for i, (a, b) in enumerate(zip(*contents, strict=True)) if a != b]
        assert changed, f"{name} lies beyond the first {SCANNED_BYTES} bytes"
        writes += [f"p[{i}] = {contents[1][i]};" for i in changed]
    body = f"memset(p, 0, {SCANNED_BYTES}); {' '.join(writes)}"
    return f"int cudaGetDeviceProperties(unsigned char *p, int device) {{ {body} return 0; }}\n"
