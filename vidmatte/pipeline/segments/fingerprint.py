"""What a render depends on, as one hash: content of input, masks and weights, marks, choices, targets, version."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from vidmatte import __version__
from vidmatte.media.patterns import matching_names
from vidmatte.model.weights import PARTS, WEIGHTS
from vidmatte.pipeline.request import Request
from vidmatte.read.images import is_listed

_BLOCK = 1 << 22

FileFingerprint = tuple[int, int, str]
"""Size, time of change in nanoseconds, and hash of the content of a file."""


@dataclass(frozen=True)
class Fingerprint:
    """What a render is of."""

    key: str
    """Equal for renders that write the same."""
    file_fingerprints: Mapping[str, FileFingerprint]
    """Of the files that were read for it, by path."""


def fingerprint(
    request: Request, known: Mapping[str, FileFingerprint] | None = None
) -> Fingerprint:
    """The identity of a request.

    Files of `known` whose size and time of change are the same are not read again. Raises OSError for a file that
    cannot be read.
    """
    source, objects, outputs = request.source, request.prompts.objects, request.outputs
    file_fingerprints: dict[str, FileFingerprint] = {}
    contents = [_contents(path, file_fingerprints, known or {}) for path in request.inputs()]
    choices = _plain(replace(request.options, overwrite=False, resume=False))
    document = {
        "version": __version__,
        "source": [Path(path).name if source.images else "" for path in source.paths],
        "contents": contents,
        "objects": {name: [_plain(prompt) for prompt in marks] for name, marks in objects.items()},
        "targets": [spec.argument for spec in outputs.requested if not spec.alpha_only],
        "alpha": [spec.argument for spec in outputs.requested if spec.alpha_only],
        "report": None if outputs.report is None else str(outputs.report),
        "images": source.images,
        "options": choices,
        "weights": weights_of(request, file_fingerprints, known),
    }
    text = json.dumps(document, sort_keys=True)
    return Fingerprint(
        hashlib.blake2b(text.encode(), digest_size=20).hexdigest(), file_fingerprints
    )


def weights_of(
    request: Request,
    file_fingerprints: dict[str, FileFingerprint] | None = None,
    known: Mapping[str, FileFingerprint] | None = None,
) -> list[str]:
    """Hashes of the weights that a request is computed with; of a model that is downloaded its name."""
    options = request.options
    file_fingerprints = {} if file_fingerprints is None else file_fingerprints
    files = [
        path
        for path in (options.model, options.sd, options.weights)
        if path is not None and Path(path).exists()
    ]
    given = [_contents(path, file_fingerprints, known or {}) for path in files]
    packaged = [part.sha256 for part in PARTS.values()]
    if str(options.model) in WEIGHTS:
        packaged.append(WEIGHTS[str(options.model)].sha256)
    return [Path(options.model).name, *packaged, *given]


def _contents(
    path: Path | str,
    file_fingerprints: dict[str, FileFingerprint],
    known: Mapping[str, FileFingerprint],
) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for file in _files(Path(path)):
        # The names of frames say which frame they are; that of a movie says nothing.
        digest.update(b"" if file == Path(path) else file.name.encode(errors="surrogateescape"))
        digest.update(_fingerprint_of(file, file_fingerprints, known)[2].encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """The files of a path: itself, those of a folder, or those that a pattern of frames matches."""
    if path.is_dir():
        images = [file for file in path.iterdir() if is_listed(file)]
        # Of a sequence or a set its images: outputs may lie in the same folder. Of a folder of weights all files.
        yield from sorted(images or (file for file in path.rglob("*") if file.is_file()))
    elif path.is_file():
        yield path
    elif path.parent.is_dir():
        pattern = matching_names(path)
        yield from sorted(file for file in path.parent.iterdir() if pattern.fullmatch(file.name))


def _fingerprint_of(
    file: Path, file_fingerprints: dict[str, FileFingerprint], known: Mapping[str, FileFingerprint]
) -> FileFingerprint:
    name = str(file.absolute())
    if name not in file_fingerprints:
        facts = os.stat(file)
        before = known.get(name)
        if before is not None and tuple(before[:2]) == (facts.st_size, facts.st_mtime_ns):
            file_fingerprints[name] = (before[0], before[1], before[2])
        else:
            file_fingerprints[name] = (facts.st_size, facts.st_mtime_ns, _hash(file))
    return file_fingerprints[name]


def _hash(file: Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with open(file, "rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it; paths are left out, as the content of their files counts."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Path):
        return "file"
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)
