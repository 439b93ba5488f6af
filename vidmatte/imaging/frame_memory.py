"""Memory of whole frames, used again for the frames that follow.

A float32 frame takes 25 MB at 1080p and 100 MB at 4K, and each lives for a short time. The C
library either gives such blocks back to the system, which then clears every page of the next one,
or keeps them in its heap between smaller ones, and the heap grows by the gaps.
"""

from __future__ import annotations

import math
import mmap
import threading
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_LEAST_BYTES = 1 << 20
"""Smaller blocks are left to the C library."""
_MOST_FREE = 4
"""Blocks kept for later at most: as many as a run lets go of before it needs the next one."""

_Block = npt.NDArray[np.uint8]


def frame_memory(shape: tuple[int, ...]) -> Tensor:
    """Return a float32 tensor of a shape, on the processor, that holds anything.

    Its memory is used again once the tensor and all its views are gone.
    """
    size = 4 * math.prod(shape)
    if size < _LEAST_BYTES:
        return torch.empty(shape)
    planes = np.asarray(_Lent(_free.take(size), shape))
    return torch.from_numpy(planes)


class _Free:
    """Blocks that nobody uses, the last one to come back at the end."""

    def __init__(self) -> None:
        # Blocks also come back in the middle of a garbage collection, on the thread that may be
        # in `take`: they wait in a queue of their own, which needs no lock.
        self._returned: deque[_Block] = deque()
        self._kept: list[_Block] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> _Block:
        """Return a block of this many bytes, a used one if there is one."""
        with self._lock:
            while self._returned:
                self._kept.append(self._returned.popleft())
            del self._kept[:-_MOST_FREE]
            for index in reversed(range(len(self._kept))):
                if self._kept[index].nbytes == size:
                    return self._kept.pop(index)
        return _new_block(size)

    def give(self, block: _Block) -> None:
        """Take a block back."""
        self._returned.append(block)


def _new_block(size: int) -> _Block:
    # Of its own from the system: a block from the heap would leave a gap there.
    if not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(size, np.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A few hundred times fewer pages to map and to clear.
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


class _Lent:
    """A block as memory of one array; arrays refer to it as long as they live."""

    def __init__(self, block: _Block, shape: tuple[int, ...]) -> None:
        self._block = block
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": np.dtype(np.float32).str,
            "shape": shape,
            "data": (block.ctypes.data, False),
        }

    def __del__(self) -> None:
        _free.give(self._block)


_free = _Free()
