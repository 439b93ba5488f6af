"""The picker's HTTP interface: translate requests to calls of the session, and its answers back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, NoReturn, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vidmatte.errors import OptionError, VidmatteError
from vidmatte.web.frame_cache import SMALL
from vidmatte.web.guard import LARGEST_BODY
from vidmatte.web.session import Session
from vidmatte.web.worker import SupersededError

LARGEST_JSON = 1 << 20
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

T = TypeVar("T")
_Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(session: Session) -> Starlette:
    """Return the application for one session; it belongs behind the guard."""
    api = _Api(session)
    routes = [
        Route("/", _page),
        Route("/static/{name}", _static),
        Route("/api/clip", api.clip),
        Route("/api/state", api.state),
        Route("/api/curve", api.curve),
        Route("/api/frame/{frame:int}", api.frame),
        Route("/api/alpha/{object:int}/{frame:int}", api.alpha),
        Route("/api/edit", api.edit, methods=["POST"]),
        Route("/api/undo", api.undo, methods=["POST"]),
        Route("/api/redo", api.redo, methods=["POST"]),
        Route("/api/mask/{object:int}/{frame:int}", api.mask, methods=["POST"]),
        Route("/api/preview", api.preview, methods=["POST"]),
        Route("/api/choices", api.selection, methods=["POST"]),
        Route("/api/run", api.run, methods=["POST"]),
        Route("/api/cancel", api.cancel, methods=["POST"]),
        Route("/api/end", api.end, methods=["POST"]),
        Route("/api/result/{output:int}/{frame:int}", api.result),
        Route("/api/file/{output:int}", api.file),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={VidmatteError: _vidmatte_error, HTTPException: _http_error},
    )


class _Api:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def clip(self, request: Request) -> Response:
        return JSONResponse(self._session.clip())

    async def state(self, request: Request) -> Response:
        return await self._state()

    async def _state(self) -> Response:
        return JSONResponse(await run_in_threadpool(self._session.state))

    async def curve(self, request: Request) -> Response:
        return JSONResponse({"confidence": await run_in_threadpool(self._session.curve)})

    async def frame(self, request: Request) -> Response:
        """Return a frame as JPEG.

        `longest` bounds its sides; `near` takes the nearest cached frame, for thumbnails.
        """
        frame = self._frame(request)
        longest = _number(request, "longest", _LARGEST_FRAME)
        if not 16 <= longest <= _LARGEST_FRAME:
            raise HTTPException(400, f"longest is 16 to {_LARGEST_FRAME}")
        if "near" in request.query_params:
            frame = await run_in_threadpool(self._session.frame_cache.nearest_cached, frame)
            longest = SMALL
        data = await run_in_threadpool(self._session.frame_cache.jpeg, frame, longest)
        return Response(data, media_type="image/jpeg")

    async def alpha(self, request: Request) -> Response:
        """Return the matte of an object: from the marks of the frame, else of the run or preview.

        Status 204 if there is none.
        """
        frame = self._frame(request)
        number = request.path_params["object"]
        asked = self._session.still(number, frame)
        if asked is not None:
            try:
                still = await asyncio.wrap_future(asked)
            except (SupersededError, asyncio.CancelledError):
                return Response(status_code=409)
            return Response(
                still.png,
                media_type="image/png",
                headers={"x-confidence": f"{still.confidence:.4f}"},
            )
        png = await run_in_threadpool(self._session.small_alpha, number, frame)
        return Response(status_code=204) if png is None else Response(png, media_type="image/png")

    async def edit(self, request: Request) -> Response:
        await run_in_threadpool(self._session.edit, await _json(request))
        return await self._state()

    async def undo(self, request: Request) -> Response:
        await run_in_threadpool(self._session.undo, -1)
        return await self._state()

    async def redo(self, request: Request) -> Response:
        await run_in_threadpool(self._session.undo, 1)
        return await self._state()

    async def mask(self, request: Request) -> Response:
        image = await _body(request, LARGEST_BODY)
        number, frame = request.path_params["object"], self._frame(request)
        await run_in_threadpool(self._session.load_mask, number, frame, image)
        return await self._state()

    async def preview(self, request: Request) -> Response:
        asked = await _json(request)
        focus = asked.get("frame")
        is_on = asked.get("on") is True
        await run_in_threadpool(
            self._session.show_preview, is_on, focus if type(focus) is int else 0
        )
        return await self._state()

    async def selection(self, request: Request) -> Response:
        await run_in_threadpool(self._session.set_outputs, await _json(request))
        return await self._state()

    async def run(self, request: Request) -> Response:
        await run_in_threadpool(self._session.start_run)
        return await self._state()

    async def cancel(self, request: Request) -> Response:
        await run_in_threadpool(self._session.cancel_run)
        return await self._state()

    async def end(self, request: Request) -> Response:
        self._session.ended.set()
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        """Return the alpha of a written frame; frames count from the first one written."""
        results = await run_in_threadpool(self._session.results)
        shown = _item(results, request.path_params["output"])
        png = await run_in_threadpool(shown.alpha, request.path_params["frame"])
        return Response(png, media_type="image/png")

    async def file(self, request: Request) -> Response:
        """Return a written movie for the page to play, by its index among the outputs."""
        summary = self._session.summary
        output = _item([] if summary is None else summary.outputs, request.path_params["output"])
        if output.path.suffix != ".webm" or not output.path.is_file():
            raise HTTPException(404, "only WebM can be played here")
        return FileResponse(output.path, media_type="video/webm")

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


async def _body(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    async for part in request.stream():
        parts.append(part)
        if sum(map(len, parts)) > most:
            raise HTTPException(413, f"more than {most:,} bytes were sent")
    return b"".join(parts)


async def _json(request: Request) -> Mapping[str, Any]:
    """Return the JSON object that was sent. HTTP error 400 for anything else."""
    text = await _body(request, LARGEST_JSON)
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"expected JSON: {error}") from error
    if not isinstance(document, dict):
        raise HTTPException(400, "expected a JSON object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise HTTPException(400, f"expected a number for {name}")
    return int(text)


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
