"""Free memory, checks that a model fits, and errors if it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from vidmatte.errors import ModelError

_CGROUP = Path("/sys/fs/cgroup")
_ADVICE = "close other programs, use another --device, or choose 'compact', which needs little"


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes on a device; None if the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        # Unified memory: the driver's recommendation less what it already gave out.
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    # In a container the smaller of both limits counts.
    known = [size for size in (_available(), _left_in_container()) if size is not None]
    return min(known) if known else None


def require_memory(needed: int, device: torch.device, what: str) -> None:
    """Raise ModelError if fewer than `needed` bytes are free on a device."""
    free = free_memory(device)
    if free is not None and free < needed:
        raise ModelError(
            f"{what} needs about {gigabytes(needed)} of memory on {device}, and {gigabytes(free)} "
            f"are free; {_ADVICE}"
        )


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Translate running out of memory into ModelError; `what` names the work."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError(f"{what}: memory ran out; {_ADVICE}") from error
    except RuntimeError as error:
        # torch on the CPU, and safetensors if a file cannot be mapped.
        if "allocate memory" not in str(error):
            raise
        raise ModelError(f"{what}: memory ran out; {_ADVICE}") from error


def gigabytes(size: int) -> str:
    """Return a size in bytes as text, in MB or GB."""
    return (
        f"{size / 1e9:.1f} GB"
        if size >= 1e9
        else f"{max(size / 1e6, 0.1):.{0 if size >= 1e7 else 1}f} MB"
    )


def _available() -> int | None:
    """Return the available bytes of the system, its caches included."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):
        # Not Linux: the total, so that at least models that can never fit are refused.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_container() -> int | None:
    """Return the bytes left below the limit of a container; None without a limit."""
    with suppress(OSError, ValueError, StopIteration):
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        # Cached pages of files count as used, but are freed on demand.
        facts = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = next(int(line.split()[1]) for line in facts if line.startswith("inactive_file "))
        return max(0, limit - used + cached)
    return None
