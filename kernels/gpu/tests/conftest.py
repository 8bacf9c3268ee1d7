"""Kernels run in Triton's interpreter: no GPU is touched. With KERNELS_ON=cuda they are compiled and run on a GPU instead."""

import os
import sys
from pathlib import Path

GPU = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(GPU), str(GPU.parent / "src"), str(GPU / "tests")]

if os.environ.get("KERNELS_ON") == "cuda":
    import device

    device.install("cuda")
else:
    os.environ["TRITON_INTERPRET"] = "1"
    import interpreter  # noqa: F401  (patches the interpreter before any kernel is imported)
