"""The picker's HTTP interface: translate requests to calls of the session, and its answers back."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from importlib.resources import files
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vidmatte.errors import OptionError, PromptError, VidmatteError
from vidmatte.web.choose import Chooser
from vidmatte.web.frame_cache import SMALL
from vidmatte.web.guard import LARGEST_BODY
from vidmatte.web.project import RemovedObjectError
from vidmatte.web.session import Session
from vidmatte.web.still import Still
from vidmatte.web.worker import SupersededError

LARGEST_JSON = 1 << 20
"""Bytes of an edit: a stroke with all of its corners is a tenth of it."""
_LARGEST_FRAME = 8192
_THUMBNAIL = 160
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_PAGE = {
    path.name: path.read_bytes()
    for path in files("vidmatte.web").joinpath("static").iterdir()
    if path.name.endswith(tuple(_KINDS))
}
"""The files of the page, read once: a request never becomes a path."""

_TIMECODES = 100
"""How many are sent at once."""


class _FrameConvertor(Convertor[int]):
    """Part of an address that is an index: short enough for any clip, and for `int`."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("frame", _FrameConvertor())
T = TypeVar("T")
_Endpoint = Callable[[Request], Awaitable[Response]]
_Method = Callable[["_Api", Request], Awaitable[Response]]


def create_app(session: Session) -> Starlette:
    """Return the application for one session; it belongs behind the guard."""
    api = _Api(session)
    routes = [
        Route("/", _page),
        Route("/static/{name}", _static),
        Route("/api/clip", api.clip),
        Route("/api/state", api.state),
        Route("/api/curve", api.curve),
        Route("/api/frame/{frame:frame}", api.frame),
        Route("/api/alpha/{object:frame}/{frame:frame}", api.alpha),
        Route("/api/timecodes/{frame:frame}", api.timecodes),
        Route("/api/sound", api.sound),
        Route("/api/save/{kind}/{object:frame}/{frame:frame}", api.save),
        Route("/api/copy", api.copy, methods=["POST"]),
        Route("/api/edge", api.edge, methods=["POST"]),
        Route("/api/prompt-model", api.prompt_model, methods=["POST"]),
        Route("/api/tips", api.tip, methods=["POST"]),
        Route("/api/edit", api.edit, methods=["POST"]),
        Route("/api/try", api.tried, methods=["POST"]),
        Route("/api/undo", api.undo, methods=["POST"]),
        Route("/api/redo", api.redo, methods=["POST"]),
        Route("/api/mask/{object:frame}/{frame:frame}", api.mask, methods=["POST"]),
        Route("/api/preview", api.preview, methods=["POST"]),
        Route("/api/choices", api.selection, methods=["POST"]),
        Route("/api/run", api.run, methods=["POST"]),
        Route("/api/cancel", api.cancel, methods=["POST"]),
        Route("/api/end", api.end, methods=["POST"]),
        Route("/api/result/{output:frame}/{frame:frame}", api.result),
        Route("/api/proxy/{kind}/{object:frame}/{frame:frame}", api.proxy),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={VidmatteError: _vidmatte_error, HTTPException: _http_error},
    )


def create_chooser_app(chooser: Chooser) -> Starlette:
    """Return the application to choose a clip; it belongs behind the guard."""

    async def page(request: Request) -> Response:
        return _file("choose.html")

    async def clips(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(chooser.as_json))

    async def choose(request: Request) -> Response:
        name = (await json_of(request)).get("name")
        await run_in_threadpool(chooser.choose, name)
        return JSONResponse(await run_in_threadpool(chooser.as_json))

    async def end(request: Request) -> Response:
        chooser.ended.set()
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", _static),
            Route("/api/choices-of-clips", clips),
            Route("/api/choose", choose, methods=["POST"]),
            Route("/api/end", end, methods=["POST"]),
        ],
        exception_handlers={VidmatteError: _vidmatte_error, HTTPException: _http_error},
    )


def _none_if_removed(endpoint: _Method) -> _Method:
    """Let an endpoint answer with status 204 for an object that was removed.

    The page asks for pictures by what it knows, and may not have heard of that yet.
    """

    @functools.wraps(endpoint)
    async def answer(api: _Api, request: Request) -> Response:
        try:
            return await endpoint(api, request)
        except RemovedObjectError:
            return Response(status_code=204)

    return answer


class _Api:
    """The endpoints of a session.

    Whatever may wait, for a lock, a disk or a network, runs in a pool of threads: the event loop
    must stay free to answer the other requests of the page.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def clip(self, request: Request) -> Response:
        return JSONResponse(self._session.clip())

    async def state(self, request: Request) -> Response:
        return await self._state()

    async def _state(self) -> Response:
        return JSONResponse(await run_in_threadpool(self._session.state))

    async def curve(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._session.curves))

    async def timecodes(self, request: Request) -> Response:
        first = self._frame(request)
        return JSONResponse({"timecodes": self._session.timecodes(first, _TIMECODES)})

    async def frame(self, request: Request) -> Response:
        """Return a frame as JPEG.

        `longest` bounds its sides; `near` takes the nearest cached frame, for thumbnails.
        """
        frame = self._frame(request)
        longest = _longest(request)
        if "near" in request.query_params:
            # A thumbnail of a neighbour at once is better than the right one after a second.
            frame = await run_in_threadpool(self._session.frame_cache.nearest_cached, frame)
            longest = SMALL
        data = await run_in_threadpool(self._session.frame_cache.jpeg, frame, longest)
        return Response(data, media_type="image/jpeg")

    @_none_if_removed
    async def alpha(self, request: Request) -> Response:
        """Return the matte of an object: from the marks of the frame, else of the run or preview.

        Status 204 if there is none, or a newer one was asked for meanwhile: that is no error, and a
        browser would note one.
        """
        if self._is_old(request):
            return Response(status_code=204)
        frame = self._frame(request)
        number = request.path_params["object"]
        asked = self._session.still(number, frame)
        if asked is not None:
            answer = await self._answer(asked)
            # The edge may have changed meanwhile: the page asks again then.
            return Response(status_code=204) if self._is_old(request) else answer
        small = await run_in_threadpool(self._session.small_alpha, number, frame)
        if small is None:
            return Response(status_code=204)
        return Response(small, media_type="image/png")

    async def tried(self, request: Request) -> Response:
        """Return the matte that an edit would give, without making it: a mark is being dragged.

        Status 204 if it gives none, or a newer one was asked for meanwhile.
        """
        edit = await json_of(request)
        asked = await run_in_threadpool(self._session.tried, edit)
        if asked is None:
            return Response(status_code=204)
        try:
            return await self._answer(asked)
        except PromptError:
            # Such as background alone. It is no mistake yet: the mark is not where it will be.
            return Response(status_code=204)

    async def _answer(self, asked: Future[Still]) -> Response:
        """Return the matte of marks, and beside it how sure the model is and what else it offers.

        Status 204 if a newer one was asked for meanwhile.
        """
        try:
            still = await asyncio.wrap_future(asked)
        except (SupersededError, asyncio.CancelledError):
            return Response(status_code=204)
        png = await run_in_threadpool(self._session.finished_still, still)
        headers = {"x-confidence": f"{still.confidence:.4f}"}
        if still.answer is not None:
            headers |= {"x-answers": ",".join(still.answers), "x-answer": still.answer}
        return Response(png, media_type="image/png", headers=headers)

    def _is_old(self, request: Request) -> bool:
        """Tell whether a picture is asked for with an edge that was changed since."""
        current = self._session.edge_version
        return _number(request, "edge", current) != current

    async def save(self, request: Request) -> Response:
        """Return a marked frame as a file: still (colour with alpha) or mask."""
        kind, number = request.path_params["kind"], request.path_params["object"]
        frame = self._frame(request)
        if kind not in ("still", "mask"):
            raise HTTPException(404, "there are still and mask")
        asked = self._session.still(number, frame)
        if asked is None:
            raise HTTPException(404, f"nothing is marked on frame {frame}: mark the object there")
        try:
            still = await asyncio.wrap_future(asked)
        except (SupersededError, asyncio.CancelledError):
            raise HTTPException(409, "the marks were changed meanwhile: save again") from None
        name, png = await run_in_threadpool(self._session.picture_of, kind, number, frame, still)
        # The name of a clip may have letters that a plain header cannot hold (RFC 6266).
        disposition = f"attachment; filename*=UTF-8''{quote(name)}"
        headers = {"content-disposition": disposition}
        return Response(png, media_type="image/png", headers=headers)

    async def sound(self, request: Request) -> Response:
        path = await run_in_threadpool(self._session.sound.file)
        return FileResponse(path, media_type="audio/webm")

    async def edit(self, request: Request) -> Response:
        await run_in_threadpool(self._session.edit, await json_of(request))
        return await self._state()

    async def undo(self, request: Request) -> Response:
        return await self._step(-1)

    async def redo(self, request: Request) -> Response:
        return await self._step(1)

    async def _step(self, by: int) -> Response:
        changed = await run_in_threadpool(self._session.undo, by)
        state = await run_in_threadpool(self._session.state)
        if changed is not None:
            # The page goes there: an undo that nobody sees looks as if it did nothing.
            state["jump"] = {"object": changed[0], "frame": changed[1]}
        return JSONResponse(state)

    async def copy(self, request: Request) -> Response:
        asked = await json_of(request)
        numbers = [asked.get(name) for name in ("object", "from", "to")]
        if not all(type(number) is int for number in numbers):
            raise HTTPException(400, "object, from and to are whole numbers")
        await run_in_threadpool(self._session.copy_marks, *cast("list[int]", numbers))
        return await self._state()

    async def edge(self, request: Request) -> Response:
        await run_in_threadpool(self._session.set_edge, await json_of(request))
        return await self._state()

    async def prompt_model(self, request: Request) -> Response:
        """Choose the model that answers marks, by `name`."""
        await run_in_threadpool(
            self._session.set_prompt_model, (await json_of(request)).get("name")
        )
        return await self._state()

    async def tip(self, request: Request) -> Response:
        tip = (await json_of(request)).get("tip")
        if not isinstance(tip, str):
            raise HTTPException(400, "expected the name of a tip")
        await run_in_threadpool(self._session.tips.add, tip)
        return await self._state()

    async def mask(self, request: Request) -> Response:
        image = await body_of(request, LARGEST_BODY)
        number, frame = request.path_params["object"], self._frame(request)
        await run_in_threadpool(self._session.load_mask, number, frame, image)
        return await self._state()

    async def preview(self, request: Request) -> Response:
        asked = await json_of(request)
        focus = asked.get("frame")
        is_on = asked.get("on") is True
        way = asked.get("way", "both")
        await run_in_threadpool(
            self._session.show_preview, is_on, focus if type(focus) is int else 0, str(way)
        )
        return await self._state()

    async def selection(self, request: Request) -> Response:
        await run_in_threadpool(self._session.set_outputs, await json_of(request))
        return await self._state()

    async def run(self, request: Request) -> Response:
        await run_in_threadpool(self._session.start_run)
        return await self._state()

    async def cancel(self, request: Request) -> Response:
        await run_in_threadpool(self._session.runs.cancel)
        return await self._state()

    async def end(self, request: Request) -> Response:
        self._session.ended.set()
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        """Return a written frame as PNG: straight RGBA of colour, or gray alpha.

        Frames count from the first one written; `longest` bounds the sides.
        """
        results = await run_in_threadpool(self._session.runs.results)
        shown = _item(results, request.path_params["output"])
        longest = _longest(request)
        edge = self._session.edge_over()
        png = await run_in_threadpool(
            shown.picture, int(request.path_params["frame"]), longest, edge
        )
        return Response(png, media_type="image/png")

    @_none_if_removed
    async def proxy(self, request: Request) -> Response:
        """Return a small picture of what a run wrote; status 204 if there is none.

        `kind` is alpha or colour of the last run, or before: alpha of the run before it.
        """
        kind = request.path_params["kind"]
        if kind not in ("alpha", "colour", "before"):
            raise HTTPException(404, "there are alpha, colour and before")
        data = await run_in_threadpool(
            self._session.proxy,
            request.path_params["object"],
            self._frame(request),
            is_color=kind == "colour",
            is_before=kind == "before",
        )
        if data is None:
            return Response(status_code=204)
        return Response(data, media_type="image/jpeg" if kind == "colour" else "image/png")

    def _frame(self, request: Request) -> int:
        frame = int(request.path_params["frame"])
        if frame >= self._session.clip_info.frames:
            raise HTTPException(
                404,
                f"frame {frame} is not valid: there are 0 to {self._session.clip_info.frames - 1}",
            )
        return frame


async def _page(request: Request) -> Response:
    return _file("index.html")


async def _static(request: Request) -> Response:
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    if name not in _PAGE:
        raise HTTPException(404, "there is no such file")
    return Response(_PAGE[name], media_type=_KINDS[f".{name.rpartition('.')[2]}"])


async def body_of(request: Request, most: int) -> bytes:
    """Return the body. HTTP error 413 if it has more bytes."""
    # Counted while it arrives: the length that a client announces need not be true.
    parts: list[bytes] = []
    async for part in request.stream():
        parts.append(part)
        if sum(map(len, parts)) > most:
            raise HTTPException(413, f"more than {most:,} bytes were sent")
    return b"".join(parts)


async def json_of(request: Request, most: int = LARGEST_JSON) -> Mapping[str, Any]:
    """Return the JSON object that was sent. HTTP error 400 for anything else."""
    text = await body_of(request, most)
    # Python reads NaN, Infinity and 1e400, which are no numbers to draw a mark at.
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"expected JSON: {error}") from error
    if not isinstance(document, dict):
        raise HTTPException(400, "expected a JSON object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    # Python refuses to read thousands of digits, and takes long to say so.
    if not text.isdecimal() or len(text) > 9:
        raise HTTPException(400, f"expected a number for {name}")
    return int(text)


def _longest(request: Request) -> int:
    longest = _number(request, "longest", _LARGEST_FRAME)
    if not 16 <= longest <= _LARGEST_FRAME:
        raise HTTPException(400, f"longest is 16 to {_LARGEST_FRAME}")
    return longest


def _item(items: Any, index: int) -> Any:
    if index >= len(items):
        raise HTTPException(404, "there is no such output")
    return items[index]


async def _vidmatte_error(request: Request, error: Exception) -> Response:
    """Return an error that the user can mend, in its own words."""
    return JSONResponse(
        {"error": str(error)}, status_code=409 if isinstance(error, OptionError) else 422
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else
    return PlainTextResponse(str(error.detail), status_code=error.status_code)
