"""What this machine can do, read without torch: cores, bf16, its kind."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}


def fast_bf16(device: str) -> bool:
    """True where bf16 matrix products are faster than fp32: GPUs that we support, CPUs with avx512_bf16 or AMX."""
    return device == "cuda" or bool({"avx512_bf16", "amx_bf16"} & set(_cpuinfo().get("flags", "").split()))


def kind() -> str:
    """The machine kind within which results are bit-identical: architecture, processor name, its bf16 units."""
    flags = set(_cpuinfo().get("flags", "").split())
    units = " ".join(sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}))
    return " / ".join(part for part in (platform.machine(), _cpuinfo().get("model name", ""), units) if part)
