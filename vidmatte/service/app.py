"""The HTTP interface of the service: clip and prompts in, state of the job, files out."""

from __future__ import annotations

import os
import secrets
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vidmatte import __version__
from vidmatte.errors import VidmatteError
from vidmatte.service.jobs import ID, Job, Jobs
from vidmatte.service.openapi import openapi_document
from vidmatte.service.queue import Queue
from vidmatte.web.app import body_of, json_of

LARGEST_MASK = 64 << 20
LARGEST_JOB = 16 << 20
"""Bytes of the JSON of a job, with its prompts."""
_SPARE = 1 << 30
"""Bytes of the disk that uploads leave free."""
_OPEN = ("/health", "/openapi.json")
"""Paths without a token."""


class _IdConvertor(Convertor[str]):
    """Part of an address that is the name of a job."""

    regex = ID.pattern

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("job", _IdConvertor())


def create_service_app(jobs: Jobs, queue: Queue, *, token: str, largest_clip: int) -> Starlette:
    """Return the application.

    Args:
        jobs: All jobs.
        queue: What renders them.
        token: Clients send it as "Authorization: Bearer TOKEN".
        largest_clip: Bytes of the largest clip that is taken.
    """
    api = _Api(jobs, queue, largest_clip)
    routes = [
        Route("/health", _health),
        Route("/openapi.json", _openapi),
        Route("/jobs", api.list),
        Route("/jobs", api.create, methods=["POST"]),
        Route("/jobs/{id:job}", api.show),
        Route("/jobs/{id:job}", api.remove, methods=["DELETE"]),
        Route("/jobs/{id:job}/masks/{name}", api.mask, methods=["PUT"]),
        Route("/jobs/{id:job}/clip", api.clip, methods=["PUT"]),
        Route("/jobs/{id:job}/cancel", api.cancel, methods=["POST"]),
        Route("/jobs/{id:job}/files/{name}", api.file),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(partial(_Tokens, token=token))],
        exception_handlers={VidmatteError: _vidmatte_error, HTTPException: _http_error},
    )


class _Tokens:
    """ASGI middleware that refuses requests without the token."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self._expected):
                answer = JSONResponse(
                    {"error": "send the token of the service: Authorization: Bearer TOKEN"},
                    status_code=401,
                    headers={"www-authenticate": "Bearer"},
                )
                await answer(scope, receive, send)
                return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        await self._app(scope, receive, sending)


class _Api:
    def __init__(self, jobs: Jobs, queue: Queue, largest_clip: int) -> None:
        self._jobs = jobs
        self._queue = queue
        self._largest_clip = largest_clip
        self._uploading: set[str] = set()

    def _job(self, request: Request) -> Job:
        job = self._jobs.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404, "there is no such job")
        return job

    async def _answer(self, job: Job, status: int = 200) -> Response:
        document = await run_in_threadpool(self._jobs.as_json, job)
        return JSONResponse(document, status_code=status)

    async def list(self, request: Request) -> Response:
        def documents() -> list[dict[str, Any]]:
            return [self._jobs.as_json(job) for job in self._jobs.all()]

        return JSONResponse({"jobs": await run_in_threadpool(documents)})

    async def create(self, request: Request) -> Response:
        if self._jobs.is_full():
            raise HTTPException(
                429, "the queue is full: try again later, or delete jobs that wait for their clip"
            )
        asked = await json_of(request, LARGEST_JOB)
        unknown = set(asked) - {"name", "prompts", "options", "output", "alpha"}
        if unknown:
            raise HTTPException(400, f"{min(unknown)!r} is not known; see /openapi.json")
        name, prompts = asked.get("name"), asked.get("prompts")
        options = asked.get("options", {})
        if not isinstance(name, str) or not isinstance(prompts, dict):
            raise HTTPException(400, "name is text and prompts an object; both are needed")
        if not isinstance(options, dict):
            raise HTTPException(400, "options is an object")
        output, alpha = (_texts(asked.get(key, []), key) for key in ("output", "alpha"))
        job = await run_in_threadpool(
            self._jobs.create, name, prompts, options=options, output=output, alpha=alpha
        )
        return await self._answer(job, 201)

    async def show(self, request: Request) -> Response:
        return await self._answer(self._job(request))

    async def mask(self, request: Request) -> Response:
        job = self._new_job(request)
        path = self._jobs.mask_of(job, request.path_params["name"])
        self._check_space(_length(request))
        image = await body_of(request, LARGEST_MASK)
        await run_in_threadpool(path.write_bytes, image)
        return await self._answer(job)

    def _new_job(self, request: Request) -> Job:
        """Return a job that waits for its clip."""
        job = self._job(request)
        if job.state != "new" or job.id in self._uploading:
            raise HTTPException(409, "the clip of this job was sent already: create another job")
        return job

    async def clip(self, request: Request) -> Response:
        """Take the clip, and queue the job."""
        job = self._new_job(request)
        self._check_length(request)
        path = self._jobs.clip_of(job)
        partial_file = path.with_name(f"{path.name}.partial")
        self._uploading.add(job.id)
        try:
            await self._receive(request, partial_file)
            await run_in_threadpool(os.replace, partial_file, path)
            await run_in_threadpool(self._jobs.submit, job)
        finally:
            self._uploading.discard(job.id)
            await run_in_threadpool(partial_file.unlink, missing_ok=True)
        return await self._answer(job, 202)

    def _check_length(self, request: Request) -> None:
        length = _length(request)
        if length > self._largest_clip:
            raise HTTPException(413, f"clips have at most {self._largest_clip:,} bytes")
        self._check_space(length)

    def _check_space(self, length: int) -> None:
        """Leave some room on the disk. Raises HTTPException."""
        if length + _SPARE > shutil.disk_usage(self._jobs.folder).free:
            raise HTTPException(507, "the disk of the server is full: delete finished jobs")

    async def _receive(self, request: Request, path: Path) -> None:
        """Write the body to a file; its length is counted, declared or not."""
        total = 0
        with open(path, "wb") as file:
            async for part in request.stream():
                total += len(part)
                if total > self._largest_clip:
                    raise HTTPException(413, f"clips have at most {self._largest_clip:,} bytes")
                await run_in_threadpool(file.write, part)
        if total == 0:
            raise HTTPException(400, "the body is empty: send the bytes of the clip")

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        await run_in_threadpool(self._queue.cancel, job)
        return await self._answer(job, 202)

    async def remove(self, request: Request) -> Response:
        job = self._job(request)
        if job.state == "running" or job.id in self._uploading:
            raise HTTPException(409, "the job is running: cancel it, and delete it then")
        await run_in_threadpool(self._jobs.remove, job)
        return Response(status_code=204)

    async def file(self, request: Request) -> Response:
        job = self._job(request)
        files = await run_in_threadpool(self._jobs.files, job)
        # A look into the list: a request never becomes a path.
        path = files.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "there is no such file; a job has files when it is done")
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")


async def _health(request: Request) -> Response:
    return JSONResponse({"vidmatte": __version__})


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi_document())


def _length(request: Request) -> int:
    """Return the declared length of the body; 0 if there is none."""
    text = request.headers.get("content-length", "")
    return int(text[:20]) if text.isdecimal() else 0


def _texts(value: object, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise HTTPException(400, f"{key} is a list of file names")
    return value


async def _vidmatte_error(request: Request, error: Exception) -> Response:
    """Return an error that the client can mend, in its own words."""
    return JSONResponse({"error": str(error)}, status_code=422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else
    return JSONResponse(
        {"error": str(error.detail)}, status_code=error.status_code, headers=error.headers
    )
