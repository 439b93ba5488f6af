"""How many threads each kind of work may use: one decision for the whole process.

PyTorch, OpenCV, numba and FFmpeg each keep threads of their own and know nothing of the others. If
together they have more threads than the machine has cores, those of PyTorch wait for each other by
spinning, and a frame takes several times as long. So all of them ask here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_MOST_IMAGES = 4
"""Images that are encoded side by side at most: each holds a frame in memory."""


def cores() -> int:
    """Return the number of cores that this process may use, at least 1."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:
        # Neither macOS nor Windows tells.
        return max(1, os.cpu_count() or 1)


@dataclass(frozen=True)
class Threads:
    """How many threads each kind of work uses, at least 1 of each.

    Attributes:
        compute: of one operation of PyTorch, OpenCV or numba; changes the last bits of a network.
        codec: of each decoder and each encoder of FFmpeg.
        images: images that are encoded side by side, one thread each.
    """

    compute: int
    codec: int
    images: int

    @classmethod
    def for_run(cls, device: str, asked: int | None = None, *, stages: int = 1) -> Threads:
        """Return the threads of a run that has the machine to itself.

        On the processor one core is left to decoding and encoding; stages that compute side by
        side share the cores evenly.

        Args:
            device: of the network, as in the options.
            asked: number of threads of the network; None for one less than the number of cores.
                The codecs get one more, and never more than there are cores.
            stages: how many stages compute side by side.
        """
        import torch

        available = cores()
        if asked is not None:
            codec = min(available, asked + 1)
            return cls(asked, codec, min(_MOST_IMAGES, codec))
        compute = torch.get_num_threads()
        if device in ("auto", "cpu"):
            spare = available - 1 if stages == 1 else available // stages
            compute = min(compute, max(1, spare))
        return cls(compute, available, min(_MOST_IMAGES, available))


SINGLE = Threads(1, 1, 1)
"""One thread of each kind: for processes that share the cores among each other."""


class _Decision:
    """The threads in force; None before anyone decided."""

    threads: Threads | None = None
    lock = threading.Lock()


def current() -> Threads:
    """Return the threads in force; all cores if nothing was decided."""
    if _Decision.threads is not None:
        return _Decision.threads
    available = cores()
    return Threads(available, available, min(_MOST_IMAGES, available))


def decide(threads: Threads) -> None:
    """Put a number of threads in force for the rest of the process, as in a worker process."""
    import cv2
    import torch

    with _Decision.lock:
        _Decision.threads = threads
    torch.set_num_threads(threads.compute)
    cv2.setNumThreads(threads.compute)


def one_in_opencv() -> None:
    """Let OpenCV use one thread for the rest of the process.

    For processes that draw training pictures side by side; a network in the same process keeps its
    threads.
    """
    import cv2

    cv2.setNumThreads(1)


@contextmanager
def using(threads: Threads) -> Iterator[None]:
    """Put a number of threads in force for a block; what was in force before comes back.

    The numbers are those of the whole process. Threads that begin to compute within the block have
    them too; PyTorch and OpenCV keep a pool for each thread that calls them.
    """
    import cv2
    import torch

    before = _Decision.threads
    of_torch = torch.get_num_threads()
    of_opencv = cv2.getNumThreads()
    decide(threads)
    try:
        yield
    finally:
        with _Decision.lock:
            _Decision.threads = before
        torch.set_num_threads(of_torch)
        cv2.setNumThreads(of_opencv)


@contextmanager
def beside_numba() -> Iterator[None]:
    """Import and call packages with parallel numba code, such as PyMatting, only in this block.

    With its OpenMP layer numba starts a thread for each core, on import already, and sets that
    number for PyTorch as well. In the block numba has as many threads as PyTorch had before it, and
    after it PyTorch has them again.
    """
    import torch

    before = torch.get_num_threads()
    try:
        import numba
    except ImportError:
        # The caller says which package is missing.
        yield
        return
    of_numba = numba.get_num_threads()
    most = int(vars(numba.config)["NUMBA_NUM_THREADS"])
    numba.set_num_threads(min(before, most))
    try:
        yield
    finally:
        numba.set_num_threads(of_numba)
        torch.set_num_threads(before)
