"""Whole frames from interlaced ones, by FFmpeg's filters: one for one, each with its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph

from vidmatte.errors import ReadError
from vidmatte.options import Deinterlace


def deinterlace(
    frames: Iterable[tuple[int, av.VideoFrame]],
    method: Deinterlace,
    *,
    source: str,
    only_flagged: bool,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield frames with both fields of one moment, that of the field shown first.

    The missing lines come from the fields before and after: `bwdif` (Weston 3 with yadif's motion
    check) or `yadif`.

    Args:
        frames: Index and frame, in order.
        method: The filter.
        source: Path, for messages.
        only_flagged: Pass frames flagged as progressive unchanged.

    Raises:
        ReadError: If the filter does not take the pixel format, or the format changes.
    """
    graph: Graph | None = None
    # The filter holds frames back and drops their other times, so these wait here.
    waiting: deque[tuple[int, int | None, int]] = deque()
    for index, frame in frames:
        if graph is None:
            name, size = frame.format.name, (frame.width, frame.height)
            graph = _graph(frame, method, only_flagged)
        elif (frame.format.name, (frame.width, frame.height)) != (name, size):
            raise ReadError(
                f"{source}: changes its format at frame {index}; split it there to deinterlace it"
            )
        waiting.append((index, frame.pts, frame.duration or 0))
        frame.pts = index  # as good as any time, and never missing
        graph.push(frame)
        yield from _finished(graph, waiting, name, source)
    if graph is not None:
        graph.push(None)
        yield from _finished(graph, waiting, name, source)


def _graph(frame: av.VideoFrame, method: Deinterlace, only_flagged: bool) -> Graph:
    graph = Graph()
    buffer = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=Fraction(frame.time_base or 1),
    )
    which = "interlaced" if only_flagged else "all"
    filtered = graph.add(method, f"mode=send_frame:parity=auto:deint={which}")
    sink = graph.add("buffersink")
    buffer.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    return graph


def _finished(
    graph: Graph, waiting: deque[tuple[int, int | None, int]], name: str, source: str
) -> Iterator[tuple[int, av.VideoFrame]]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        if frame.format.name != name:  # FFmpeg would convert colours here, in its own way
            raise ReadError(
                f"{source}: frames of format {name} cannot be deinterlaced; convert it to "
                f"yuv422p10 first"
            )
        index, frame.pts, frame.duration = waiting.popleft()
        yield index, frame
