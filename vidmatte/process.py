"""The process of the program: its stop signals, standard streams and heap.

A terminal that is gone (ssh, a closed window), a full disk behind `2>log` or a closed pipe must
not end a healthy render: messages on standard error are written if possible.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""Exit code of a stopped run."""
_HEAP = {
    # The largest number of heaps.
    "MALLOC_ARENA_MAX": (-8, 1),
    # From this size on, memory is taken from the system for itself; 32 MB is the most there is.
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20),
    # So much may be free at the end of the heap before it is given back. With four times as much a
    # run of small frames, 16 at once, held 200 MB more.
    "MALLOC_TRIM_THRESHOLD_": (-1, 64 << 20),
}
"""Numbers and values of parameters of `mallopt`, by the variables that go before them."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, the stop of a farm, a lost terminal."""
_STOPPING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal by ending the process at once, if nothing has to be cleaned up."""
    os._exit(INTERRUPTED)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal like Ctrl-C, to clean up every output."""
    raise KeyboardInterrupt


def handled_signals() -> list[int]:
    """Return the signals to handle, except those set to be ignored by a shell or nohup."""
    return [number for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def loading() -> Iterator[None]:
    """End the process at once at a signal, while large libraries are imported.

    An exception that is raised in the middle of their import would be lost in it, or leave a
    library half initialised. To be used before a command has begun anything.
    """
    replaced = [number for number in _STOPPING if signal.getsignal(number) is interrupt]
    for number in replaced:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, interrupt)


def use_one_heap() -> None:
    """Let all threads take memory from one heap that keeps it, with the C library of GNU.

    Otherwise each thread has a heap of its own, and one does not use what another has free: frames
    go from thread to thread. What a heap gives back has to be asked for again and filled with
    zeros, for each frame anew. To be called before there are threads. The variables of the library,
    such as `MALLOC_ARENA_MAX`, go before it.
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return
    with suppress(ValueError, OSError):
        # Raises where another C library only knows the name.
        os.confstr("CS_GNU_LIBC_VERSION")
        for variable, (parameter, value) in _HEAP.items():
            if variable not in os.environ:
                ctypes.CDLL(None).mallopt(parameter, value)


class _LossyFile(io.RawIOBase):
    """Passes on text if it can be written, and drops the rest."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        """Return whether the stream is a terminal; a closed one is not."""
        try:
            return bool(self._raw.isatty())
        except (OSError, ValueError):
            return False

    def write(self, data: Any) -> int:
        """Write bytes, and return their number whether they could be written or not."""
        size = len(memoryview(data).cast("B"))
        try:
            return int(self._raw.write(data) or size)
        except (OSError, ValueError):
            return size


def protect_streams() -> None:
    """Make the standard streams of this process safe to write to. To be called once, at its start.

    Closed descriptors 0 to 2 are opened on the null device: otherwise the next file that
    is opened would get such a number, and messages of libraries would be written into it. Errors of
    writing to standard error are ignored from here on. Errors of standard output are not: results
    are printed there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stderr is None:  # closed at the start, or pythonw
        # As long as the process.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    if raw is not None:
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_LossyFile(raw)),
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
