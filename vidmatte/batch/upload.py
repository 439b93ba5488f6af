"""Send outputs to fsspec addresses, such as s3://bucket/shot.mov, from a staging folder.

All workers reach the staging folder. A file appears at its address after it was sent whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte.errors import MissingExtraError, VidmatteError, WriteError
from vidmatte.pipeline.request import Request
from vidmatte.write import OutputSpec

STAGING = ".vidmatte-staging"
# Addresses that are plain paths.
_LOCAL = ("file", "local")
"""Protocols of the files of this machine."""
_UNUSABLE = {
    "data": "holds its content in itself, and nothing can be sent there",
    "memory": "exists in one process only, and is gone with it",
    "http": "can be read only",
    "https": "can be read only",
}
_VERSIONS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "crc32c", "checksum")
"""Facts of an object that change with its content, by their names in fsspec."""
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


def is_uri(path: object) -> bool:
    """Return whether a path is an address of fsspec."""
    return "://" in str(path)


def local_path_of(uri: str) -> Path | None:
    """Return the path of an address on this machine, None if it is elsewhere.

    Chained addresses, such as `simplecache::file://...`, are never local: they also write to a
    cache.
    """
    if uri.partition("://")[0] not in _LOCAL:
        return None
    # fsspec has rules of its own, such as "~".
    return Path(_open(uri)[1])


def stage_locally(request: Request, folder: Path) -> tuple[Request, dict[str, str]]:
    """Return the request with outputs in `folder` in place of those with an address, and those.

    The addresses are by the paths in `folder`.
    """
    uris: dict[str, str] = {}
    staged = []
    for number, spec in enumerate(request.outputs.requested):
        if not is_uri(spec.path):
            staged.append(spec)
            continue
        local = folder / str(number) / str(spec.path).rpartition("/")[2]
        uris[str(local)] = str(spec.path)
        staged.append(replace(spec, path=local))
    return request.with_outputs(staged) if uris else request, uris


def uri_of(spec: OutputSpec, uris: Mapping[str, str]) -> str | None:
    """Return the address of an output of a staged request, None if it is a path."""
    for local, uri in uris.items():
        # `{object}` was replaced in the output, and not in what was asked for.
        if spec.folder == Path(local).parent:
            return uri.rpartition("/")[0] + "/" + Path(spec.path).name
    return None


def files_at(uri: str, spec: OutputSpec) -> dict[str, int]:
    """Return the sizes of the files of an output at its address, by their own addresses.

    Raises:
        WriteError: If the storage cannot be asked.
    """
    folder = uri.rpartition("/")[0]
    return {f"{folder}/{_name_of(entry)}": int(entry["size"] or 0) for entry in _entries(uri, spec)}


def stamp_at(uri: str, spec: OutputSpec) -> list[Any]:
    """Return a stamp of an output's files, different after a replacement: number, bytes, digest.

    The digest covers names, sizes and facts of the storage: checksums, or ETags, or
    else times of changes.

    Raises:
        WriteError: If the storage cannot be asked.
    """
    entries = sorted(_entries(uri, spec), key=_name_of)
    facts = []
    for entry in entries:
        version = [str(entry[key]) for key in _VERSIONS if entry.get(key)]
        times = [str(entry[key]) for key in _TIMES if entry.get(key)]
        facts.append([_name_of(entry), int(entry["size"] or 0), *(version or times)])
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
    return [len(entries), sum(int(entry["size"] or 0) for entry in entries), digest]


def _entries(uri: str, spec: OutputSpec) -> list[Mapping[str, Any]]:
    system, place = _open(uri.rpartition("/")[0])
    with _translated(uri):
        # What other programs wrote meanwhile counts as well.
        system.invalidate_cache()
        if not system.isdir(place):
            return []
        found = system.ls(place, detail=True)
    return [entry for entry in found if spec.file_names.fullmatch(_name_of(entry))]


def _name_of(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).rpartition("/")[2]


def existing_outputs(request: Request, uris: Mapping[str, str]) -> list[str]:
    """Return the existing files of a request's outputs. Raises WriteError."""
    found: list[str] = []
    for spec in request.outputs.specs:
        uri = uri_of(spec, uris)
        if uri is not None:
            found += files_at(uri, spec)
        elif spec.folder.is_dir():
            names = (path.name for path in spec.folder.iterdir())
            found += [str(spec.folder / name) for name in names if spec.file_names.fullmatch(name)]
    return sorted(found)


def refuse_existing(request: Request, uris: Mapping[str, str]) -> None:
    """Raise WriteError if an output exists at its address, and may not be replaced.

    Raises it as well for addresses without write access.
    """
    for uri in uris.values():
        _check_bucket(uri)
    there = [path for path in existing_outputs(request, uris) if is_uri(path)]
    if there and not request.options.overwrite:
        raise WriteError(
            f"{there[0]} exists already; use --overwrite to replace it, or choose another name"
        )


def _check_bucket(uri: str) -> None:
    """Raise WriteError if the bucket of an object store does not exist: it may be mistyped."""
    system, place = _open(uri)
    bucket = place.partition("/")[0]
    if not bucket or _is_local(system):
        return
    with _translated(uri):
        try:
            system.info(bucket)
        except FileNotFoundError as error:
            raise WriteError(
                f"{uri}: {bucket!r} does not exist in the storage; check its spelling, or create "
                f"it first"
            ) from error


def clear(request: Request, uris: Mapping[str, str]) -> None:
    """Remove outputs from the staging folder, sent or not."""
    for spec in request.outputs.specs:
        if uri_of(spec, uris) is not None and spec.folder.is_dir():
            for path in spec.folder.iterdir():
                if spec.file_names.fullmatch(path.name):
                    path.unlink()


def remove_staged(request: Request, uris: Mapping[str, str]) -> None:
    """Remove the outputs from the staging folder, and folders left empty."""
    clear(request, uris)
    remove_staging_folders(uris)


def remove_staging_folders(uris: Mapping[str, str]) -> None:
    """Remove the folders of a shot in the staging folder, and that folder, if they are empty."""
    for local in uris:
        folder = Path(local).parent
        shot = folder.parent
        # A folder that the user named with --staging is theirs.
        own = [folder, shot, shot.parent] if shot.parent.name == STAGING else [folder, shot]
        with suppress(OSError):  # not empty: a journal, or another shot
            for each in own:
                each.rmdir()


def upload(request: Request, uris: Mapping[str, str]) -> None:
    """Send the outputs to their addresses; they stay in the staging folder, see `remove_staged`.

    Raises:
        WriteError: If the storage refuses them.
    """
    for spec in request.outputs.specs:
        uri = uri_of(spec, uris)
        if uri is None:
            continue
        _check_bucket(uri)
        system, place = _open(uri.rpartition("/")[0])
        with _translated(uri):
            system.makedirs(place, exist_ok=True)
            for path in sorted(spec.folder.iterdir()):
                if spec.file_names.fullmatch(path.name):
                    _send(system, path, f"{place}/{path.name}")


def _send(system: Any, path: Path, place: str) -> None:
    if _is_local(system):
        # A copy to a path is seen while it is made, unlike an upload to an object store.
        partial = f"{place}.partial"
        system.put_file(str(path), partial)
        system.mv(partial, place)
    else:
        system.put_file(str(path), place)


def _is_local(system: Any) -> bool:
    return bool(set(_protocols(system)) & set(_LOCAL))


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _open(uri: str) -> tuple[Any, str]:
    """Return the file system of an address, and the place in it. Raises WriteError."""
    protocol = uri.partition("://")[0]
    if protocol in _UNUSABLE:
        raise WriteError(
            f"{uri}: {protocol}:// {_UNUSABLE[protocol]}; choose a path, or an address such as "
            f"s3://bucket/name"
        )
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"an output at {uri}", "ray") from error
    with _translated(uri):
        system, place = fsspec.core.url_to_fs(uri)
    return system, place


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Raise WriteError for whatever a storage library raises.

    Each of them has its own exceptions (no credentials, an endpoint that is down, a name that is
    not allowed), and most are no OSError.
    """
    try:
        yield
    except VidmatteError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WriteError(
            f"{uri}: the storage cannot be used ({type(error).__name__}: {reason}); check the "
            f"address, the credentials, and that the storage answers"
        ) from error
