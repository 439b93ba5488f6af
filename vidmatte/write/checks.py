"""Paths that cannot be written, found before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Set
from fractions import Fraction
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError

from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import VideoInfo
from vidmatte.media.patterns import matching_names
from vidmatte.media.timecode import nominal_rate
from vidmatte.write.specs import OutputSpec

_TELEVISION_RATES = (*map(Fraction, (24, 25, 30, 50, 60)), *(Fraction(n * 1000, 1001) for n in (24, 30, 60)))


def check_outputs_apart(
    specs: Sequence[OutputSpec], *, like: VideoInfo, inputs: Sequence[Path | str], overwrite: bool
) -> frozenset[Path]:
    """Check targets against each other, the inputs and the disk; return the resolved files that must not be touched.

    Raises OptionError for two targets with one path or a target that is an input, WriteError for a missing
    encoder, a folder that is missing or not writable, or an output that exists and may not be replaced.
    """
    _refuse_same_paths(specs)
    used = frozenset(_input_files(inputs))
    for spec in specs:
        _refuse_inputs(spec, used)
        _check_encoder(spec)
        _check_picture(spec, like)
        _check_folder(spec)
        if not overwrite:
            _refuse_existing(spec, used)
    return used


def _refuse_same_paths(specs: Iterable[OutputSpec]) -> None:
    seen: set[tuple[Path, str]] = set()
    for spec in specs:
        path = Path(spec.path)
        movie = path.resolve()
        key = (movie.parent, movie.name) if spec.format.is_movie else (path.parent.resolve(), spec.file_names.pattern)
        if key in seen:
            raise OptionError(f"{spec}: two outputs have this path; give each its own")
        seen.add(key)


def _input_files(inputs: Sequence[Path | str]) -> Iterator[Path]:
    """The files that are read: each input itself, and the files of a folder or of the folder of a pattern."""
    for source in map(Path, inputs):
        if source.is_dir():
            yield from (path.resolve() for path in source.iterdir() if path.is_file())
        elif not source.exists() and source.parent.is_dir():
            pattern = matching_names(source)
            yield from (path.resolve() for path in source.parent.iterdir() if pattern.fullmatch(path.name))
        yield source.resolve()


def _refuse_inputs(spec: OutputSpec, used: Set[Path]) -> None:
    for path in sorted(used):
        if spec.is_named:
            is_written = (spec.folder / spec.image_name(number=0, name=path.stem)).resolve() in used
        elif spec.format.is_movie:
            is_written = Path(spec.path).resolve() == path
        else:
            is_written = path.parent == spec.folder.resolve() and bool(spec.file_names.fullmatch(path.name))
        if is_written:
            raise OptionError(f"{spec}: would be written over an input ({path}); choose another path")


def _check_encoder(spec: OutputSpec) -> None:
    if not spec.format.is_movie or spec.format.codec == "avif":
        return
    try:
        av.Codec(spec.format.codec, "w")
    except UnknownCodecError as error:
        raise WriteError(
            f"{spec}: the FFmpeg of this PyAV has no encoder {spec.format.codec}; use the wheel of PyAV, or "
            f"choose another format"
        ) from error


def _check_picture(spec: OutputSpec, like: VideoInfo) -> None:
    """Raises WriteError for a size or a frame rate that the format does not have."""
    form = spec.format
    if like.width < form.smallest[0] or like.height < form.smallest[1]:
        raise WriteError(
            f"{spec}: {form.description} begins at {form.smallest[0]}x{form.smallest[1]} pixels, and the frames have "
            f"{like.width}x{like.height}; choose another format"
        )
    if form.constant_rate and nominal_rate(like.frame_rate) not in _TELEVISION_RATES:
        raise WriteError(
            f"{spec}: {form.extension} knows the frame rates of television only, and the source has "
            f"{float(like.frame_rate):.3f}; choose .mov"
        )


def _check_folder(spec: OutputSpec) -> None:
    check_folder(spec.folder, asked=spec)
    if spec.format.is_movie and Path(spec.path).is_dir():
        raise WriteError(f"{spec}: is a folder; choose another name")


def check_folder(folder: Path, *, asked: object) -> None:
    """Raises WriteError where a folder cannot take what was asked for."""
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"{asked}: {folder.absolute()} is not a folder; choose another path")
    if not folder.exists():
        raise WriteError(f"{asked}: the folder {folder.absolute()} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{asked}: the folder {folder.absolute()} is not writable; choose another one")


def _refuse_existing(spec: OutputSpec, used: Set[Path]) -> None:
    if spec.is_named:
        names = {spec.image_name(number=0, name=path.stem) for path in used}
        existing = sorted(name for name in names if (spec.folder / name).exists())
    else:
        existing = sorted(name for name in os.listdir(spec.folder) if spec.file_names.fullmatch(name))
    if existing:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise WriteError(
            f"{spec.folder / existing[0]}{more} exists already; use --overwrite to replace it, or choose another name"
        )
