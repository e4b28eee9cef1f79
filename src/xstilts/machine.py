"""What this machine can do, read without torch: cores, bf16, memory, its kind; and what other devices can, by name."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by name: bytes of its memory as its driver reports them, dense matrix operations a second in bf16 and in fp32."""

    name: str
    memory: int
    bf16: float
    fp32: float


# Peaks are NVIDIA's own, without sparsity: the data sheets of L4, L40S, A100, H100 (SXM) and H200; for the RTX 4090 the white paper of
# the Ada architecture (bf16 summed in fp32). fp32 is that of the plain cores: TF32 is not switched on here.
DEVICES: Mapping[str, Device] = {
    "rtx4090": Device("RTX 4090 24 GB", 24_564 << 20, 165.2e12, 82.6e12),
    "l4": Device("L4 24 GB", 23_034 << 20, 121e12, 30.3e12),
    "l40s": Device("L40S 48 GB", 46_068 << 20, 362e12, 91.6e12),
    "a100-40": Device("A100 40 GB", 40_960 << 20, 312e12, 19.5e12),
    "a100": Device("A100 80 GB", 81_920 << 20, 312e12, 19.5e12),
    "h100": Device("H100 80 GB", 81_559 << 20, 989.4e12, 66.9e12),
    "h200": Device("H200 141 GB", 143_771 << 20, 989.4e12, 66.9e12),
}
# The share of the peak that a time on a named device is reckoned with. Chowdhery et al. 2022 (arXiv 2204.02311, table 3) give 21 to
# 46 % for training large language models; short rows and small models stay below.
UTILISATION = 0.3


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of memory: all that a process may use, and what of it others have left."""

    total: int
    free: int


def memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Room | None:
    """This machine's memory, or that of the control groups that the process is in, whichever is less; None where nothing says it."""
    try:
        lines = (proc / "meminfo").read_text("ascii").splitlines()
        found = {name: int(value.split()[0]) << 10 for name, _, value in (line.partition(":") for line in lines)}
        room = Room(found["MemTotal"], found["MemAvailable"])
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        own = next(line[3:] for line in (proc / "self" / "cgroup").read_text("ascii").splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return room
    folder = groups / own.lstrip("/")
    for each in (folder, *folder.parents):
        limit = _limit(each)
        if limit is not None:
            room = Room(min(room.total, limit.total), min(room.free, limit.free))
        if each == groups:
            break
    return room


def _limit(group: Path) -> Room | None:
    """What one control group (version 2) allows; pages of files that it has read last are given up when they are wanted."""
    try:
        most, used = int((group / "memory.max").read_text("ascii")), int((group / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
    except (OSError, ValueError):
        return None  # "max", or no such file
    return Room(most, max(0, most - used + int(stat.get("inactive_file", 0))))


def cuda_memory() -> Room | None:
    """The memory of the first CUDA device, as its driver's own tool says it; None where there is none."""
    asked = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
        total, free = (int(value) << 20 for value in answer.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return Room(total, free)
