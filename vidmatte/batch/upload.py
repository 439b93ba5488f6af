"""Outputs with an fsspec address, such as s3://bucket/shot.mov: made in a staging folder, and sent by the workers.

The staging folder is a path that all workers reach; a file has its address when all of it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte.errors import MissingExtraError, WriteError
from vidmatte.pipeline.request import Request
from vidmatte.write import OutputSpec

STAGING = ".vidmatte-staging"


def is_uri(path: object) -> bool:
    """Whether a path is an address of fsspec."""
    return "://" in str(path)


def stage_locally(request: Request, folder: Path) -> tuple[Request, dict[str, str]]:
    """The request with outputs in `folder` in place of those with an address, and the address of each such output."""
    uris: dict[str, str] = {}

    staged = []
    for number, spec in enumerate(request.outputs.requested):
        if is_uri(spec.path):
            local = folder / str(number) / str(spec.path).rpartition("/")[2]
            uris[str(local)] = str(spec.path)
            spec = replace(spec, path=local)
        staged.append(spec)
    return (request.with_outputs(staged) if uris else request), uris


def uri_of(spec: OutputSpec, uris: Mapping[str, str]) -> str | None:
    """The address of a target of a staged request; None for one that is a path."""
    for local, uri in uris.items():
        # The names of objects stand in the target, and not in what was asked for.
        if spec.folder == Path(local).parent:
            return uri.rpartition("/")[0] + "/" + Path(spec.path).name
    return None


def files_at(uri: str, spec: OutputSpec) -> dict[str, int]:
    """Sizes of the files of a target that are at its address, by their own addresses."""
    folder, names = uri.rpartition("/")[0], spec.file_names
    system, place = _open(folder)
    if not system.isdir(place):
        return {}
    found = system.ls(place, detail=True)
    return {
        f"{folder}/{entry['name'].rpartition('/')[2]}": int(entry["size"] or 0)
        for entry in found
        if names.fullmatch(entry["name"].rpartition("/")[2])
    }


def existing_outputs(request: Request, uris: Mapping[str, str]) -> list[str]:
    """The outputs of a request that are there already."""
    found: list[str] = []
    for spec in request.outputs.specs:
        uri = uri_of(spec, uris)
        if uri is not None:
            found += files_at(uri, spec)
        elif spec.folder.is_dir():
            found += [
                str(path) for path in spec.folder.iterdir() if spec.file_names.fullmatch(path.name)
            ]
    return sorted(found)


def refuse_existing(request: Request, uris: Mapping[str, str]) -> None:
    """Raise WriteError for an output with an address that is there, and may not be replaced."""
    there = [path for path in existing_outputs(request, uris) if is_uri(path)]
    if there and not request.options.overwrite:
        raise WriteError(
            f"{there[0]} exists already; use --overwrite to replace it, or choose another name"
        )


def clear(request: Request, uris: Mapping[str, str]) -> None:
    """Remove outputs from the staging folder, sent or not."""
    for spec in request.outputs.specs:
        if uri_of(spec, uris) is not None and spec.folder.is_dir():
            for path in spec.folder.iterdir():
                if spec.file_names.fullmatch(path.name):
                    path.unlink()


def remove_staged(request: Request, uris: Mapping[str, str]) -> None:
    """Remove the outputs from the staging folder, and what is empty of it then."""
    clear(request, uris)
    for local in uris:
        with suppress(OSError):  # a journal may lie there too
            Path(local).parent.rmdir()


def upload(request: Request, uris: Mapping[str, str]) -> None:
    """Send the outputs to their addresses; they stay in the staging folder, see `remove_staged`. Raises WriteError."""
    for spec in request.outputs.specs:
        uri = uri_of(spec, uris)
        if uri is None:
            continue
        folder = uri.rpartition("/")[0]
        system, place = _open(folder)
        try:
            system.makedirs(place, exist_ok=True)
            for path in sorted(spec.folder.iterdir()):
                if spec.file_names.fullmatch(path.name):
                    _send(system, path, f"{place}/{path.name}")
        except OSError as error:
            raise WriteError(
                f"{uri}: cannot be sent there ({error}); check the address and its rights"
            ) from error


def _send(system: Any, path: Path, place: str) -> None:
    if "file" in _protocols(system):
        # A copy to a path is seen while it is made, unlike an upload to an object store.
        partial = f"{place}.partial"
        system.put_file(str(path), partial)
        system.mv(partial, place)
    else:
        system.put_file(str(path), place)


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _open(uri: str) -> tuple[Any, str]:
    """The file system of an address, and the place in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"an output at {uri}", "ray") from error
    try:
        system, place = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise WriteError(f"{uri}: cannot be opened ({error})") from error
    return system, place
