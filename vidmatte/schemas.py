"""JSON schemas (2020-12) of what scripts read and write: results, prompts and manifests.

New keys may come at any time, so that no schema forbids further ones. A key that changes its
meaning or goes raises the version of its document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vidmatte.option_table import manifest_schema
from vidmatte.options import EXTENTS
from vidmatte.prompts.files import JSON_VERSION as PROMPTS_VERSION
from vidmatte.report.summary import JSON_VERSION

Schema = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_FRAME: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_SECONDS: Schema = {"type": "number", "minimum": 0}


def _object(title: str, required: Mapping[str, Schema], **optional: Schema) -> Schema:
    """Return the schema of an object with keys that are always there, and others."""
    return {
        "title": title,
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def _described(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


def _written_file(**more: Schema) -> Schema:
    return _object(
        "an output",
        {
            "path": _described(_TEXT, "Absolute; of images with the place of the frame number."),
            "kind": {"enum": ["colour", "alpha"]},
            "codec": _TEXT,
            "pixel_format": _TEXT,
            "frames": {"type": "integer", "minimum": 1},
            **more,
        },
        object=_described(_TEXT, "Name of its object; not there for one without a name."),
    )


def _confidence(*, with_frames: bool) -> Schema:
    facts: dict[str, Schema] = {
        "mean": _SHARE,
        "min": _SHARE,
        "suggested_reference_frames": {"type": "array", "items": _FRAME},
    }
    if with_frames:
        values = {"type": "array", "items": _SHARE, "minItems": 1}
        facts["frames"] = _described(values, "Of each matted frame, in order.")
    return _object("how sure the model is", facts)


def _summary_keys(*, in_results: bool) -> dict[str, Schema]:
    """Return the keys of the summary of a run; in results of a batch they differ a little."""
    stamp: dict[str, Schema] = {"stamp": {"type": "array"}} if in_results else {}
    return {
        "schema_version": {"const": JSON_VERSION},
        "vidmatte": _described(_TEXT, "Version of the program."),
        "input": _described(_TEXT, "Absolute path of the source."),
        "frames": {"type": "integer", "minimum": 1},
        "first_frame": _described(
            _FRAME, "Number of the first matted frame: of its file in a sequence, else from 0."
        ),
        "reference_frames": {"type": "array", "items": _FRAME},
        "seconds": _SECONDS,
        "fps": _SECONDS,
        "model": _TEXT,
        "weights": _described(
            {"type": "array"}, "Files of weights with their SHA-256; none for other models."
        ),
        "options": _described({"type": "object"}, "The options that differ from their defaults."),
        "stages": {"type": "object", "additionalProperties": _SECONDS},
        "device": _TEXT,
        "precision": _TEXT,
        "outputs": {"type": "array", "items": _written_file(**stamp)},
        "confidence": _confidence(with_frames=not in_results),
        "truncated_at": _described(
            {"type": ["integer", "null"]}, "First unreadable frame of a truncated source."
        ),
        "report": _described({"type": ["string", "null"]}, "The page of the report."),
        "sidecars": _described(_TEXTS, "Scripts for host programs."),
        "objects": _TEXTS,
        "notes": _described(_TEXTS, "Sentences on what a user should know."),
    }


def summary_schema() -> Schema:
    """Return the schema of what `vidmatte matte --json` prints: a summary, or an error."""
    done = _object("the summary of a run", _summary_keys(in_results=False))
    return {"$schema": _DIALECT, "title": "vidmatte --json", "oneOf": [done, _error()]}


def _error() -> Schema:
    facts = {
        "type": _described(_TEXT, "Name of the error in Python."),
        "message": _described(_TEXT, "What was asked, what was found, what to do; one line."),
        "exit_code": {"enum": [1, 2, 130]},
    }
    return _object("an error", {"error": _object("what went wrong", facts)})


def result_schema() -> Schema:
    """Return the schema of a line of the results of a batch."""
    tries = {"type": "integer", "minimum": 1}
    shot: dict[str, Schema] = {"shot": _TEXT, "tries": tries}
    done = _object(
        "a shot that is done",
        {
            **shot,
            "state": {"const": "done"},
            "key": _described(_TEXT, "Hash of everything that the outputs depend on."),
            "file_fingerprints": {"type": "object"},
            **_summary_keys(in_results=True),
            "lowest": _described(
                {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
                "The least sure frames, each with its confidence.",
            ),
        },
    )
    failed = _object(
        "a shot that failed",
        {
            **shot,
            "state": {"const": "failed"},
            "error": _described(_TEXT, "Name of the error in Python."),
            "reason": _described(_TEXT, "What was asked, what was found, what to do."),
            "unit": _described(_TEXT, "The part of the work that failed."),
        },
        trace=_described(_TEXT, "The traceback of an unexpected error."),
    )
    begun = _object(
        "a shot that was begun, with the outputs that it may replace when it is tried again",
        {"shot": _TEXT, "state": {"const": "begun"}, "outputs": _TEXTS},
    )
    title = "a line of SHOTS.results.jsonl"
    return {"$schema": _DIALECT, "title": title, "oneOf": [begun, done, failed]}


def prompts_schema() -> Schema:
    """Return the schema of a prompt file."""
    number: Schema = {"type": "number"}
    label = _described({"enum": [0, 1]}, "1 is the object, 0 the background.")
    pair: Schema = {"type": "array", "prefixItems": [number, number], "items": False, "minItems": 2}
    point = {
        "type": "array",
        "prefixItems": [number, number, label],
        "items": False,
        "minItems": 2,
    }
    stroke = _object(
        "a stroke",
        {"points": {"type": "array", "items": pair, "minItems": 1}, "width": _SECONDS},
        label=label,
    )
    path = _described(_TEXT, "An image; relative to the prompt file.")
    prompt = _object(
        "the marks of a frame",
        {},
        frame=_described(
            {"type": ["integer", "string", "null"]},
            "Number of the frame (of the file in a sequence, else from 0), index:5, seconds or "
            "timecode; the first frame if it is left out.",
        ),
        points={"type": "array", "items": point},
        strokes={"type": "array", "items": stroke},
        box={"type": "array", "items": number, "minItems": 4, "maxItems": 4},
        mask=path,
        scribbles=path,
        extent={"enum": list(EXTENTS)},
    )
    # The reader refuses others: a misspelt mark must not be ignored.
    prompt["additionalProperties"] = False
    marked = _object(
        "an object",
        {"name": _TEXT, "prompts": {"type": "array", "items": prompt, "minItems": 1}},
    )
    clip = _object(
        "facts of the marked clip",
        {},
        size=_described(
            {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "Width and height in square pixels.",
        ),
        bytes={"type": "integer", "minimum": 0},
    )
    schema = _object(
        "a vidmatte prompt file",
        {
            "version": {"enum": list(range(1, PROMPTS_VERSION + 1))},
            "objects": {"type": "array", "items": marked, "minItems": 1},
        },
        source=_described(_TEXT, "Name of the marked clip."),
        clip=clip,
        picker=_described({"type": "object"}, "What the picker remembers; nobody else reads it."),
    )
    schema["properties"]["objects"]["description"] = (
        "Coordinates are pixels of the displayed frame, (0, 0) at its top left corner."
    )
    return {"$schema": _DIALECT, **schema}


SCHEMAS: Mapping[str, Callable[[], Schema]] = {
    "summary": summary_schema,
    "results": result_schema,
    "prompts": prompts_schema,
    "manifest": manifest_schema,
}
"""Every schema by name."""
