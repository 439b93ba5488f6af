"""The OpenAPI description of the service, built from the tables that it works by."""

from __future__ import annotations

from typing import Any

from vidmatte import __version__
from vidmatte.option_table import manifest_schema
from vidmatte.schemas import prompts_schema
from vidmatte.service.jobs import OPTION_KEYS, STATES

Schema = dict[str, Any]


def openapi_document() -> Schema:
    """Return the description (OpenAPI 3.1)."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vidmatte",
            "version": __version__,
            "description": "Create a job with prompts, send masks if the prompts name some, then "
            "the clip: the job is queued when the clip is there. Ask for the job until its state "
            "is done, and fetch its files.",
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Job": _job(),
                "NewJob": _new_job(),
                "Prompts": _without_dialect(prompts_schema()),
                "Error": _object(
                    {"error": _described("string", "What to do about it.")}, ["error"]
                ),
            },
        },
    }


def _paths() -> Schema:
    job = _parameter("id", "The job.", {"type": "string", "pattern": "^[0-9a-f]{16}$"})
    name = _parameter("name", "The file.", {"type": "string"})
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    body = {"required": True, "content": binary}
    new_job = {"required": True, "content": _json("NewJob")}
    listed = _object({"jobs": {"type": "array", "items": _ref("Job")}}, ["jobs"])
    health = _object({"vidmatte": _described("string", "Version.")}, ["vidmatte"])
    no_token: Schema = {"security": []}
    return {
        "/health": {
            "get": _operation("Whether the service is there", {"200": health}) | no_token,
        },
        "/openapi.json": {
            "get": _operation("This description", {"200": {"type": "object"}}) | no_token,
        },
        "/jobs": {
            "get": _operation("All jobs, the oldest first", {"200": listed}),
            "post": _operation("Create a job", {"201": _ref("Job")}, "400", "422", "429")
            | {"requestBody": new_job},
        },
        "/jobs/{id}": {
            "parameters": [job],
            "get": _operation("A job", {"200": _ref("Job")}, "404"),
            "delete": _operation("Delete a job and its files", {"204": None}, "404", "409"),
        },
        "/jobs/{id}/masks/{name}": {
            "parameters": [job, name],
            "put": _operation(
                "Send a mask that the prompts name as masks/NAME",
                {"200": _ref("Job")},
                "404",
                "409",
                "413",
                "422",
                "507",
            )
            | {"requestBody": body},
        },
        "/jobs/{id}/clip": {
            "parameters": [job],
            "put": _operation(
                "Send the clip, and queue the job",
                {"202": _ref("Job")},
                "404",
                "409",
                "413",
                "422",
                "507",
            )
            | {"requestBody": body},
        },
        "/jobs/{id}/cancel": {
            "parameters": [job],
            "post": _operation("Stop a job", {"202": _ref("Job")}, "404"),
        },
        "/jobs/{id}/files/{name}": {
            "parameters": [job, name],
            "get": {
                **_operation("A file of a job that is done", {}, "404"),
                "responses": {
                    "200": {"description": "The file.", "content": binary},
                    **_errors("401", "404"),
                },
            },
        },
    }


def _new_job() -> Schema:
    keys = manifest_schema()["$defs"]["shot"]["properties"]
    options = {key: keys[key] for key in OPTION_KEYS}
    files = {"type": "array", "items": {"type": "string"}}
    return _object(
        {
            "name": _described("string", "File name of the clip, such as shot.mp4."),
            "prompts": _ref("Prompts"),
            "options": {**_object(options, []), "additionalProperties": False},
            "output": {**files, "description": "Colour with alpha: shot.mov, shot.%04d.exr:float."},
            "alpha": {**files, "description": "Alpha alone: shot.mkv."},
        },
        ["name", "prompts"],
    )


def _job() -> Schema:
    file = _object(
        {"name": {"type": "string"}, "bytes": {"type": "integer"}, "url": {"type": "string"}},
        ["name", "bytes", "url"],
    )
    return _object(
        {
            "id": {"type": "string"},
            "name": {"type": "string"},
            "state": {
                "enum": list(STATES),
                "description": "A new job waits for its clip, a queued one for a device.",
            },
            "created": _described("number", "Seconds since 1970."),
            "frames": _described("integer", "Frames that are done."),
            "total": {"type": ["integer", "null"], "description": "Frames in all, if known."},
            "error": _described("string", "Why it failed; empty otherwise."),
            "summary": _described("object", "Facts of a job that is done, as in --json."),
            "files": {"type": "array", "items": file},
        },
        ["id", "name", "state", "created", "frames", "total", "error", "summary", "files"],
    )


_REASONS = {
    "400": "The request is not as described here.",
    "401": "The token is missing or wrong.",
    "404": "There is no such job or file.",
    "409": "The job is not in a state for that.",
    "413": "Too many bytes were sent.",
    "422": "An option, the prompts or the clip cannot be used; the message says why.",
    "429": "The queue is full.",
    "507": "The disk of the server is full.",
}


def _operation(summary: str, answers: dict[str, Schema | None], *errors: str) -> Schema:
    responses: Schema = {}
    for status, schema in answers.items():
        responses[status] = {"description": summary}
        if schema is not None:
            responses[status]["content"] = {"application/json": {"schema": schema}}
    return {"summary": summary, "responses": {**responses, **_errors("401", *errors)}}


def _errors(*statuses: str) -> Schema:
    return {
        status: {"description": _REASONS[status], "content": _json("Error")} for status in statuses
    }


def _json(name: str) -> Schema:
    return {"application/json": {"schema": _ref(name)}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, required: list[str]) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": required} if required else found


def _described(kind: str, text: str) -> Schema:
    return {"type": kind, "description": text}


def _parameter(name: str, text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _without_dialect(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "$schema"}
