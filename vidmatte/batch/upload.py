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


def is_address(path: object) -> bool:
    """Whether a path is an address of fsspec."""
    return "://" in str(path)


def stage(request: Request, folder: Path) -> tuple[Request, dict[str, str]]:
    """The request with outputs in `folder` in place of those with an address, and the address of each such output."""
    addresses: dict[str, str] = {}

    def staged(path: str | Path, number: int) -> str | Path:
        if not is_address(path):
            return path
        local = folder / str(number) / str(path).rpartition("/")[2]
        addresses[str(local)] = str(path)
        return local

    output = tuple(staged(path, number) for number, path in enumerate(request.output))
    alpha = tuple(staged(path, number) for number, path in enumerate(request.alpha, len(output)))
    return replace(request, output=output, alpha=alpha), addresses


def address_of(target: OutputSpec, addresses: Mapping[str, str]) -> str | None:
    """The address of a target of a staged request; None for one that is a path."""
    for local, address in addresses.items():
        # The names of objects stand in the target, and not in what was asked for.
        if target.folder == Path(local).parent:
            return address.rpartition("/")[0] + "/" + Path(target.path).name
    return None


def files_at(address: str, target: OutputSpec) -> dict[str, int]:
    """Sizes of the files of a target that are at its address, by their own addresses."""
    folder, names = address.rpartition("/")[0], target.file_names
    system, place = _open(folder)
    if not system.isdir(place):
        return {}
    found = system.ls(place, detail=True)
    return {
        f"{folder}/{entry['name'].rpartition('/')[2]}": int(entry["size"] or 0)
        for entry in found
        if names.fullmatch(entry["name"].rpartition("/")[2])
    }


def existing_outputs(request: Request, addresses: Mapping[str, str]) -> list[str]:
    """The outputs of a request that are there already."""
    found: list[str] = []
    for target in request.targets():
        address = address_of(target, addresses)
        if address is not None:
            found += files_at(address, target)
        elif target.folder.is_dir():
            found += [str(path) for path in target.folder.iterdir() if target.file_names.fullmatch(path.name)]
    return sorted(found)


def refuse_existing(request: Request, addresses: Mapping[str, str]) -> None:
    """Raise WriteError for an output with an address that is there, and may not be replaced."""
    there = [path for path in existing_outputs(request, addresses) if is_address(path)]
    if there and not request.options.overwrite:
        raise WriteError(f"{there[0]} exists already; use --overwrite to replace it, or choose another name")


def clear(request: Request, addresses: Mapping[str, str]) -> None:
    """Remove outputs from the staging folder, sent or not."""
    for target in request.targets():
        if address_of(target, addresses) is not None and target.folder.is_dir():
            for path in target.folder.iterdir():
                if target.file_names.fullmatch(path.name):
                    path.unlink()


def remove_staged(request: Request, addresses: Mapping[str, str]) -> None:
    """Remove the outputs from the staging folder, and what is empty of it then."""
    clear(request, addresses)
    for local in addresses:
        with suppress(OSError):  # a journal may lie there too
            Path(local).parent.rmdir()


def deliver(request: Request, addresses: Mapping[str, str]) -> None:
    """Send the outputs to their addresses; they stay in the staging folder, see `remove_staged`. Raises WriteError."""
    for target in request.targets():
        address = address_of(target, addresses)
        if address is None:
            continue
        folder = address.rpartition("/")[0]
        system, place = _open(folder)
        try:
            system.makedirs(place, exist_ok=True)
            for path in sorted(target.folder.iterdir()):
                if target.file_names.fullmatch(path.name):
                    _send(system, path, f"{place}/{path.name}")
        except OSError as error:
            raise WriteError(f"{address}: cannot be sent there ({error}); check the address and its rights") from error


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


def _open(address: str) -> tuple[Any, str]:
    """The file system of an address, and the place in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"an output at {address}", "ray") from error
    try:
        system, place = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise WriteError(f"{address}: cannot be opened ({error})") from error
    return system, place
