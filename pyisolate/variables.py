"""Environment variables that decide how a process starts, and those that an extension may see."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["READ_AT_START", "READ_BY_LIBRARIES", "without_secrets"]

# What is read once, when an interpreter or a library starts. PYTHONPATH is read later.
READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "ASAN_", "UBSAN_", "TSAN_", "LSAN_")
READ_BY_LIBRARIES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "BLAS_", "ATEN_", "NPY_", "NUMPY_"),
    *("TBB_", "TORCH", "PYTORCH_", "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_"),
    *("DNNL_", "ONEDNN_"),
)
_KEPT = {
    *("PATH", "TZ", "TERM", "COLORTERM", "NO_COLOR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR"),
}


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the host's variables an extension may see: how its interpreter and libraries are set up."""
    prefixes = READ_AT_START + READ_BY_LIBRARIES
    return {name: value for name, value in environ.items() if name in _KEPT or name.startswith(prefixes)}
