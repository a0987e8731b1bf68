"""Where networks run, and in which type."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; ``cuda:1`` and the like will do too.

    Raises:
        ValueError: an unknown name, or a CUDA device that this machine does not have.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, got {str(device)!r}")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: expected a CUDA device of this machine, got '{place}', which it does not have")
    return place


def has_bf16() -> bool:
    """Whether this CPU computes bfloat16 natively (AVX-512 BF16 or AMX); elsewhere float32 is faster.

    oneDNN's own question, ``_is_mkldnn_bf16_supported``, also says yes where it would emulate.
    """
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, test, lambda: False)()) for test in tests)


def pick_dtype(device: torch.device, dtype: str = "auto") -> torch.dtype:
    """What is asked for; ``auto``: float16 on CUDA, bfloat16 on CPUs that compute it, else float32.

    Raises:
        ValueError: an unknown name, or float16 on a CPU, which has no kernels for it worth using.
    """
    if dtype not in ("auto", *DTYPES):
        raise ValueError(f"dtype: expected auto, {', '.join(DTYPES)}, got {dtype!r}")
    if dtype == "float16" and device.type == "cpu":
        raise ValueError("dtype: expected float32 or bfloat16 on a CPU, got float16")
    if dtype != "auto":
        return DTYPES[dtype]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if has_bf16() else torch.float32
