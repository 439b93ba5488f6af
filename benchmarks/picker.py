"""How long the picker takes: `python benchmarks/picker.py [click|scrub]`.

click: from the request of a new mark to its new alpha as a PNG, on a 1080p frame with the embedded
    model: what the page waits for after a click, but for drawing. The frame was shown before, as it
    is when one clicks on it.
scrub: a random frame of a clip of 5 minutes of 1080p H.264 with a key frame every 10 s (the sample
    clip, enlarged, with fresh grain): as the page asks for it while the slider is dragged, just
    after the clip was opened, and among the frames that were read in the background meanwhile.
    While a frame is sought, the page shows the key frame before it.

Both use HTTP from a separate server, as the page does. The processor time printed beside is that of
all threads, so that it can be compared on a busy machine, too: two idle cores need half of it at
best.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from random import Random

import av
import click
import cv2
import numpy as np
import torch
from end_to_end import make_clip

from vidmatte.options import MatteOptions
from vidmatte.web.server import PickerServer
from vidmatte.web.session import PickerConfig, Session

OBJECT = ((720, 375), (720, 840), (770, 150), (680, 800), (985, 730), (400, 800))
"""Places on the person in the first frame, at 1080p."""
KEY_FRAMES = 250
CLIP_FRAMES = 7500


class Page:
    """Requests of a page, on one connection that stays open."""

    def __init__(self, server: PickerServer) -> None:
        self._host = f"127.0.0.1:{server.port}"
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._connection.request("GET", f"/?{server.address.partition('?')[2]}")
        answer = self._connection.getresponse()
        answer.read()
        self._headers = {
            "cookie": answer.headers["set-cookie"].split(";")[0],
            "origin": f"http://{self._host}",
        }

    def connect(self) -> None:
        """Anew: the server closes connections that nothing was asked on for a while."""
        self._connection.close()

    def ask(self, path: str, document: object = None) -> bytes:
        """The body of the answer; a post where there is something to send."""
        body = None if document is None else json.dumps(document)
        self._connection.request("GET" if body is None else "POST", path, body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise click.ClickException(f"{path}: {answer.status} {data[:200]!r}")
        return data


@contextmanager
def served(clip: Path) -> Iterator[tuple[Session, Page]]:
    """A picker for a clip, and a page that uses it."""
    session = Session(PickerConfig(clip, options=MatteOptions(device="cpu")), folder=clip.parent)
    try:
        with PickerServer(session) as server:
            yield session, Page(server)
    finally:
        session.close()


def show(what: str, times: list[tuple[float, float]]) -> None:
    """Median, ninth decile and longest, and the median of the processor time."""
    seconds, spent = zip(*times, strict=True)
    middle, high, most = (float(np.quantile(seconds, q)) for q in (0.5, 0.9, 1))
    click.echo(
        f"{what:40s} median {middle:5.2f} s, 90 % {high:5.2f} s, longest {most:5.2f} s, of "
        f"{len(seconds)}; processor {float(np.median(spent)):5.2f} s"
    )


class Stopwatch:
    """Time since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds, and seconds of the processor in all threads."""
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1]


@click.group()
@click.option("--threads", default=2, help="Threads of torch and of OpenCV.")
def main(threads: int) -> None:
    """Print how long the picker takes."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


@main.command("click")
@click.option("--clicks", default=24)
def click_command(clicks: int) -> None:
    """Time from a click to its alpha."""
    rng = Random(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        served(make_clip(Path(folder) / "clip.mp4", 12)) as (session, page),
    ):
        session.frame_cache.wait()
        page.ask("/api/frame/0")
        seconds = []
        for n in range(clicks):
            if n % len(OBJECT) == 0:
                page.ask("/api/edit", {"op": "clear_frame", "object": 1, "frame": 0})
            x, y = (value + rng.randint(-8, 8) for value in OBJECT[n % len(OBJECT)])
            watch = Stopwatch()
            page.ask(
                "/api/edit",
                {"op": "add_point", "object": 1, "frame": 0, "x": x, "y": y, "label": 1},
            )
            page.ask("/api/alpha/1/0")
            seconds.append(watch.read())
        show("from a click to its alpha, the first click", seconds[:1])
        show("from a click to its alpha, the others", seconds[1:])


@main.command("scrub")
@click.option("--frames", default=40, help="Random frames that are asked for.")
@click.option(
    "--wait", default=30, help="Seconds that the clip is read for before it is asked again."
)
def scrub_command(frames: int, wait: int) -> None:
    """Time from a random place of the slider to its frame."""
    rng = Random(0)
    with tempfile.TemporaryDirectory() as folder:
        part, clip = Path(folder) / "part.mp4", Path(folder) / "clip.mp4"
        repeat(make_clip(part, 2 * KEY_FRAMES), clip)
        began = time.perf_counter()
        with served(clip) as (session, page):
            page.ask("/api/frame/0?longest=640")
            click.echo(f"opened, with its first frame, in {time.perf_counter() - began:.2f} s")
            show("a random frame, at once", asked(page, rng.choices(range(CLIP_FRAMES), k=frames)))
            seconds = [
                timed(page, f"/api/frame/{frame}?near=1")
                for frame in np.linspace(0, CLIP_FRAMES - 1, 15).astype(int)
            ]
            show("a thumbnail of the slider", seconds)
            time.sleep(wait)
            kept = [
                frame
                for frame in range(CLIP_FRAMES)
                if session.frame_cache.nearest_cached(frame) == frame
            ]
            click.echo(
                f"{len(kept)} frames were kept {time.perf_counter() - began:.0f} s after opening"
            )
            page.connect()
            show("a random one of these", asked(page, rng.choices(kept, k=frames)))


def asked(page: Page, frames: list[int]) -> list[tuple[float, float]]:
    return [timed(page, f"/api/frame/{frame}?longest=640") for frame in frames]


def timed(page: Page, path: str) -> tuple[float, float]:
    watch = Stopwatch()
    page.ask(path)
    return watch.read()


def repeat(part: Path, clip: Path) -> None:
    """The clip again and again, its packets copied, until there are enough frames."""
    with av.open(str(part)) as source, av.open(str(clip), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        base = source.streams.video[0].time_base
        assert base is not None
        length = round(2 * KEY_FRAMES / 25 / base)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        times = [(packet.pts, packet.dts) for packet in packets]
        for n in range(CLIP_FRAMES // (2 * KEY_FRAMES)):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.pts, packet.dts, packet.time_base, packet.stream = (
                    pts + n * length,
                    dts + n * length,
                    base,
                    stream,
                )
                out.mux(packet)


if __name__ == "__main__":
    main()
