"""One hash of everything a render depends on.

It covers the content of inputs, masks and weights, the prompts, the options, the outputs, and the
version of vidmatte.
"""

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
from vidmatte.options import MatteOptions
from vidmatte.pipeline.color import config_file
from vidmatte.pipeline.request import Request
from vidmatte.read.images import is_listed

_BLOCK = 1 << 22  # 4 MiB at a time
_EDGE = 1 << 20
"""Bytes at the beginning and at the end of a large file that are hashed."""
_LARGE = 1 << 25
"""Size from which only the edges of a file are hashed: reading it whole would take seconds."""

FileFingerprint = tuple[int, int, str]
"""Size of a file in bytes, its time of change in nanoseconds, and a hash of its content."""


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a render."""

    key: str
    """Equal for renders with the same result."""
    file_fingerprints: Mapping[str, FileFingerprint]
    """Fingerprints of the input files, by path."""

    @property
    def stamps(self) -> str:
        """Return one hash of the sizes and times of change of all files."""
        return _hash_of_stamps({path: found[:2] for path, found in self.file_fingerprints.items()})


def stamps_of(request: Request) -> str:
    """Return `Fingerprint.stamps` of the files of a request as they are now. Raises OSError."""
    options = request.options
    weights = _given_weights(options)
    paths = [*request.inputs(), *(path for path in weights if Path(path).exists())]
    stamps = {}
    for path in paths:
        for file in _files(Path(path)):
            facts = os.stat(file)
            # Content is not read: every worker runs this, also for inputs of many gigabytes.
            stamps[str(file.absolute())] = (facts.st_size, facts.st_mtime_ns)
    return _hash_of_stamps(stamps)


def _hash_of_stamps(stamps: Mapping[str, tuple[int, int]]) -> str:
    text = json.dumps({path: list(stamp) for path, stamp in stamps.items()}, sort_keys=True)
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=20).hexdigest()


def fingerprint(
    request: Request, known: Mapping[str, FileFingerprint] | None = None
) -> Fingerprint:
    """Return the identity of a request.

    Of large files the beginning, the end, the size and the time of change count, with the option
    `full_hash` all of their content and not the time.

    Args:
        request: the request.
        known: fingerprints of earlier runs; a file of the same size and time of change is not
            read again.

    Raises:
        OSError: a file cannot be read.
    """
    hashes = _FileHashes(known or {}, full=request.options.full_hash)
    source, outputs = request.source, request.outputs
    objects = request.prompts.objects
    document: dict[str, Any] = {
        "version": __version__,
        # The name of a clip does not change its mattes; names of single images are names of
        # outputs.
        "source": [Path(path).name if source.images else "" for path in source.paths],
        "contents": [hashes.of(path) for path in request.inputs()],
        "objects": {name: [_plain(prompt) for prompt in marks] for name, marks in objects.items()},
        "targets": [spec.argument for spec in outputs.requested if not spec.alpha_only],
        "alpha": [spec.argument for spec in outputs.requested if spec.alpha_only],
        "report": None if outputs.report is None else str(outputs.report),
        **({"sidecars": list(outputs.sidecars)} if outputs.sidecars else {}),
        "images": source.images,
        # Neither changes a pixel, and a run must be resumable with other values of them.
        "options": _plain(replace(request.options, overwrite=False, resume=False)),
        "weights": _weights_of(request, hashes),
    }
    config = config_file(request.options)
    if config is not None:
        document["ocio"] = hashes.of(config)
    text = json.dumps(document, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    return Fingerprint(key, hashes.found)


def _weights_of(request: Request, hashes: _FileHashes) -> list[str]:
    """Return hashes of the weights of a request; of downloaded models their name."""
    options = request.options
    files = [path for path in _given_weights(options) if Path(path).exists()]
    # The refiner serves several models, so it always counts.
    packaged = [part.sha256 for part in PARTS.values()]
    if str(options.model) in WEIGHTS:
        packaged.append(WEIGHTS[str(options.model)].sha256)
    return [Path(options.model).name, *packaged, *(hashes.of(path) for path in files)]


def _given_weights(options: MatteOptions) -> list[str | Path]:
    """Return the paths of weights in the options; the name of a model is among them."""
    paths = (options.model, options.sd, options.weights, options.prompt_weights)
    return [path for path in paths if path is not None]


class _FileHashes:
    """Hashes of files, each read once."""

    def __init__(self, known: Mapping[str, FileFingerprint], *, full: bool) -> None:
        self.found: dict[str, FileFingerprint] = {}
        self._known = known
        self._full = full

    def of(self, path: Path | str) -> str:
        """Return a hash of a file, or of the files of a folder or a pattern."""
        digest = hashlib.blake2b(digest_size=20)
        for file in _files(Path(path)):
            # The name of a frame gives its number; the name of a movie means nothing.
            name = "" if file == Path(path) else file.name
            digest.update(name.encode(errors="surrogateescape"))
            digest.update(self._of_file(file)[2].encode())
        return digest.hexdigest()

    def _of_file(self, file: Path) -> FileFingerprint:
        name = str(file.absolute())
        if name not in self.found:
            facts = os.stat(file)
            stamp = (facts.st_size, facts.st_mtime_ns)
            before = self._known.get(name)
            if before is not None and tuple(before[:2]) == stamp and self._is_kind(before[2]):
                self.found[name] = (before[0], before[1], before[2])
            else:
                self.found[name] = (*stamp, self._hash(file, *stamp))
        return self.found[name]

    def _is_kind(self, value: str) -> bool:
        """Return whether a known hash is good enough: with `full`, one of the edges is not."""
        return not (self._full and value.startswith(_QUICK))

    def _hash(self, file: Path, size: int, changed: int) -> str:
        digest = hashlib.blake2b(digest_size=20)
        with open(file, "rb") as data:
            if self._full or size < _LARGE:
                while block := data.read(_BLOCK):
                    digest.update(block)
                return digest.hexdigest()
            # The middle of the file is not read, so its time of change stands in for it.
            digest.update(f"{size} {changed}".encode())
            digest.update(data.read(_EDGE))
            data.seek(-_EDGE, os.SEEK_END)
            digest.update(data.read(_EDGE))
        return _QUICK + digest.hexdigest()


_QUICK = "edges:"
"""Prefix of hashes of the edges of a file."""


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a path: itself, those of a folder, or the matches of a pattern."""
    if path.is_dir():
        images = [file for file in path.iterdir() if is_listed(file)]
        # Of frames only the images count: outputs may be in the same folder. Of weights all files.
        yield from sorted(images or (file for file in path.rglob("*") if file.is_file()))
    elif path.is_file():
        yield path
    elif path.parent.is_dir():
        pattern = matching_names(path)
        yield from sorted(file for file in path.parent.iterdir() if pattern.fullmatch(file.name))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; paths are left out, as the content of their files counts."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Path):
        return "file"
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    # `None` is allowed in such unions; other types, such as Fraction, become text.
    return value if isinstance(value, int | float | str | bool | None) else str(value)
