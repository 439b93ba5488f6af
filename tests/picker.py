"""A picker for tests: a small clip of a moving disc, a session, a server, plain HTTP requests."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from clips import write_movie

from vidmatte.errors import VidmatteError
from vidmatte.frames import MatteBatch
from vidmatte.options import MatteOptions
from vidmatte.pipeline.run import matte_request
from vidmatte.web.frame_cache import DiskCache
from vidmatte.web.run import Progress, Run, _request, _show
from vidmatte.web.server import PickerServer
from vidmatte.web.session import PickerConfig, Session

SIZE = (160, 96)
QUICK = MatteOptions(adapt_steps=0, working_size=128, device="cpu")


def disc(frame: int, size: tuple[int, int] = SIZE) -> tuple[float, float, float]:
    """Middle and radius of the disc in a frame, in pixels."""
    width, height = size
    return width * (0.3 + 0.4 * (frame % 40) / 40), height * 0.5, height * 0.28


def write_disc(path: Path, frames: int = 24, size: tuple[int, int] = SIZE, **options) -> Path:
    """An orange disc that moves to the right over a blue gradient."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    pictures = []
    for frame in range(frames):
        cx, cy, radius = disc(frame, size)
        picture = np.dstack([20 + 40 * x / size[0], 60 + 60 * y / size[1], 150 + 60 * x / size[0]])
        picture[np.hypot(x - cx, y - cy) < radius] = (230, 120, 30)
        pictures.append(picture.astype(np.uint8))
    return write_movie(path, frames=frames, size=size, pictures=pictures, **options)


@contextmanager
def opened(clip: Path, **opening):
    """A session for a clip, that writes into its folder."""
    session = Session(
        PickerConfig(clip, options=opening.pop("options", QUICK), **opening), folder=clip.parent
    )
    try:
        yield session
    finally:
        session.close()


class InlineRun(Run):
    """A run in this thread instead of a process of its own, which takes long to start."""

    def __init__(self, job) -> None:
        self.job, self.number = job, next(InlineRun.numbers)
        self.progress, self.mattes, self.confidence = Progress(), DiskCache(), {}
        self._sent = []
        try:
            summary = matte_request(
                _request(job), on_mattes=lambda mattes: _show(mattes, job.color, self)
            )
            self.progress = Progress("done", summary=summary)
        except VidmatteError as error:
            self.progress = Progress("failed", error=str(error))

    numbers = count(1)

    def send(self, message) -> None:
        """Take what the process would send."""
        self._keep(*message[1:])

    def cancel(self) -> None:
        """Nothing runs."""

    def wait(self, seconds=None) -> None:
        """Nothing runs."""


@dataclass(frozen=True)
class CircleAnswer:
    """A circle around the first point: what `CircleModel` makes of marks."""

    alpha: torch.Tensor
    extent: str
    extents: tuple[str, ...] = ("part", "object", "group")


class CircleModel:
    """Answers a point with circles of three sizes around it, in pixels: part, object and group."""

    device, precision = torch.device("cpu"), torch.float32

    def __init__(self, name: str = "circles", radii: tuple[int, int, int] = (12, 30, 70)) -> None:
        self.name = name
        self.radii = dict(zip(("part", "object", "group"), radii, strict=True))

    def encode(self, reference, *, after=None) -> CircleAnswer:
        """The circle of the extent that is asked for; a mask is its own answer."""
        if reference.is_complete:
            return CircleAnswer(reference.alpha, "object", ("object",))
        rows, columns = np.nonzero(reference.steps[0].labels.numpy() == 1)
        x, y = reference.steps[0].left + columns.mean(), reference.steps[0].top + rows.mean()
        height, width = reference.rgb.shape[-2:]
        yy, xx = np.mgrid[:height, :width]
        extent = reference.extent or "object"
        inside = np.hypot(xx - x, yy - y) < self.radii[extent]
        return CircleAnswer(torch.from_numpy(inside.astype(np.float32))[None, None], extent)

    def with_encoded(self, references):
        """The circle of the first reference on every image."""
        return lambda batch: MatteBatch(batch, references[0].alpha, (0.9,))

    def with_reference(self, references):
        """As a run asks for it."""
        return self.with_encoded([self.encode(reference) for reference in references])


def on_disc(frame: int = 0, size: tuple[int, int] = SIZE, **more) -> dict:
    """The edit that marks the disc of a frame with a point."""
    x, y, _ = disc(frame, size)
    return {"op": "add_point", "object": 1, "frame": frame, "x": x, "y": y, "label": 1} | more


class Browser:
    """Sends requests as a browser with the cookie would; headers that are given replace its own."""

    def __init__(self, server: PickerServer) -> None:
        self.server = server
        self.host = f"127.0.0.1:{server.port}"
        self.cookie = ""

    def visit(self) -> int:
        """Open the address once; returns the status."""
        parts = urlsplit(self.server.address)
        status, headers, _ = self.send("GET", f"{parts.path}?{parts.query}")
        self.cookie = headers.get("set-cookie", "").split(";")[0]
        return status

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str | None):
        """Status, headers with lower-case names, and body of the answer."""
        own = {"host": self.host, "cookie": self.cookie}
        if method != "GET":
            own |= {"origin": f"http://{self.host}", "content-length": str(len(body or b""))}
        sent = own | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return (
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def get(self, path: str):
        """The JSON of an address."""
        status, _, body = self.send("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, document: object = None):
        """Status and JSON (or text) of a post."""
        status, headers, body = self.send(
            "POST", path, json.dumps({} if document is None else document).encode()
        )
        is_json = headers.get("content-type", "").startswith("application/json")
        return status, json.loads(body) if is_json else body.decode()
