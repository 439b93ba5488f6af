"""Memory of frames and the heap of the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor

from vidmatte.imaging.frame_memory import frame_memory

SHAPE = (3, 300, 400)


def test_memory_of_a_frame_that_is_gone_is_used_again() -> None:
    place = frame_memory(SHAPE).data_ptr()
    assert frame_memory(SHAPE).data_ptr() == place


def test_memory_is_kept_as_long_as_a_view_of_the_frame() -> None:
    frame = frame_memory(SHAPE).fill_(0.25)
    corner = frame[1, 10:20, 10:20].numpy()[None]
    del frame
    gc.collect()
    for _ in range(3):
        frame_memory(SHAPE).fill_(0.75)
    assert (corner == 0.25).all()


def test_frames_at_the_same_time_have_memory_of_their_own() -> None:
    frames = [frame_memory(SHAPE).fill_(number) for number in range(8)]
    assert [float(frame.min()) for frame in frames] == list(range(8))
    assert [float(frame.max()) for frame in frames] == list(range(8))


def test_frames_of_several_sizes_and_small_ones() -> None:
    for shape in ((3, 400, 300), (1, 3, 500, 400), (3, 2, 2)):
        frame = frame_memory(shape)
        assert frame.shape == shape
        assert frame.dtype == torch.float32
        assert frame.is_contiguous()


def test_threads_take_and_give_back_frames_at_the_same_time() -> None:
    wrong: list[float] = []

    def work(number: int) -> None:
        kept: list[Tensor] = []
        for _ in range(60):
            kept.append(frame_memory(SHAPE).fill_(number))
            kept = kept[-2:]
            wrong.extend(float(frame.mean()) for frame in kept if bool((frame != number).any()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


HEAPS = """
import ctypes, sys, threading
from vidmatte.process import use_one_heap
if sys.argv[1] == "one":
    use_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)
def take():
    libc.malloc(ctypes.c_size_t(5000))
    together.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


FRAMES = """
import ctypes, resource, sys
from vidmatte.process import use_one_heap
if sys.argv[1] == "one":
    use_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
size = 8 << 20
for turn in range(10):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    taken = [libc.malloc(ctypes.c_size_t(size)) for _ in range(6)]
    for each in taken:
        ctypes.memset(each, 1, size)
    for each in reversed(taken):
        libc.free(each)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
needs_gnu = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="needs the GNU C library"
)


def run_apart(script: str, which: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    return subprocess.run(
        [sys.executable, "-c", script, which],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )


@needs_gnu
@pytest.mark.parametrize("which", ["one", "many"])
def test_the_command_has_one_heap_for_all_threads(which: str) -> None:
    # The C library itself lists its heaps.
    heaps = run_apart(HEAPS, which).stderr.count("Arena ")
    assert heaps == 1 if which == "one" else heaps > 1


@needs_gnu
@pytest.mark.parametrize("which", ["one", "many"])
def test_the_heap_keeps_the_memory_of_frames(which: str) -> None:
    # Each of eight turns has 48 MB, which are 12,288 pages of 4 kB.
    faults = int(run_apart(FRAMES, which).stdout)
    assert faults < 100 if which == "one" else faults > 8 * 700
