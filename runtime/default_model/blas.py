"""Import before NumPy or PyTorch: picks fast OpenBLAS kernels.

OpenBLAS falls back to slow generic kernels on CPUs it does not know; naming
a core type it does know is several times faster there."""

import os


def prefer_wide_kernels():
    try:
        with open("/proc/cpuinfo") as info:
            flags = info.read()
    except OSError:
        return
    if "avx512bw" in flags:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")


prefer_wide_kernels()
