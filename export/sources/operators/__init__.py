"""ONNX operators as PyTorch's own functions: one family per file; every file is loaded."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
