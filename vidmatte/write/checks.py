"""Find outputs that cannot be written before any work is done."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError

from vidmatte.errors import OptionError, VidmatteError, WriteError
from vidmatte.frames import VideoInfo
from vidmatte.media.patterns import parse_pattern
from vidmatte.media.timecode import nominal_rate
from vidmatte.write.folders import (
    check_folder,
    name_refused,
    nearest_folder,
    replaceable,
    trial_folder,
    try_name,
)
from vidmatte.write.identity import InputFiles
from vidmatte.write.specs import OutputSpec

_TELEVISION_RATES = (
    *map(Fraction, (24, 25, 30, 50, 60)),
    *(Fraction(n * 1000, 1001) for n in (24, 30, 60)),
)


def check_outputs(
    specs: Sequence[OutputSpec], *, like: VideoInfo, inputs: Sequence[Path | str], overwrite: bool
) -> InputFiles:
    """Check outputs against each other, the inputs and the disk; return the files of the inputs.

    A hidden folder is created beside each output for a moment: it shows whether the disk takes the
    name, and whether two paths lead to the same place.

    Args:
        specs: The outputs.
        like: The clip, for size, frame rate and the first number of a sequence.
        inputs: Input files, folders and patterns; they are never written to.
        overwrite: Whether existing outputs may be replaced.

    Raises:
            OptionError: If two outputs are one file, or an output is an input.
            WriteError: If an encoder is missing, a folder or a name cannot be written, or an output
                exists and may not be replaced.
    """
    used = InputFiles.of(inputs)
    for spec in specs:
        _refuse_inputs(spec, used, [spec.folder])
        _check_encoder(spec)
        _check_picture(spec, like)
        check_folder(spec.folder, asked=spec)
        if spec.format.is_movie and os.path.isdir(spec.path):
            raise WriteError(f"{spec}: is a folder; choose another name")
        _check_existing(spec, used, overwrite=overwrite)
    for one, other in combinations(specs, 2):
        _refuse_same_path(one, other)
    for spec in specs:
        _try_on_disk(spec, specs, used, like)
    return used


def _refuse_same_path(one: OutputSpec, other: OutputSpec) -> None:
    # Names that differ only in case are told apart on the disk, see `_try_on_disk`.
    is_same_name = one.file_names.pattern == other.file_names.pattern
    if is_same_name and one.folder.resolve() == other.folder.resolve():
        raise _same_path(other)
    # Links are followed: two names may lead to one file.
    if one.format.is_movie and other.format.is_movie:
        paths = (os.path.realpath(one.path), os.path.realpath(other.path))
        exist = all(map(os.path.exists, paths))
        if paths[0] == paths[1] or (exist and os.path.samefile(*paths)):
            raise _same_path(other)


def _same_path(spec: OutputSpec) -> OptionError:
    return OptionError(f"{spec}: two outputs have this path; give each its own")


def _folded(spec: OutputSpec) -> str:
    """Return a key with the same value for names that some disk does not tell apart."""
    # APFS and HFS+ fold composed and decomposed characters, and most disks of Windows and macOS
    # case.
    return unicodedata.normalize("NFC", spec.file_names.pattern).casefold()


def _try_on_disk(
    spec: OutputSpec, specs: Sequence[OutputSpec], used: InputFiles, like: VideoInfo
) -> None:
    """Try the name of an output in a hidden folder, and look for that folder by other paths.

    The folder is found beside an input or another output if both lie in one folder, however it was
    mounted and whatever device the system reports.
    """
    final = _first_file(spec, used, like)
    try:
        with trial_folder(final) as trial:
            try_name(trial, final)
            same = [folder for folder in used.folders if os.path.lexists(folder / trial.name)]
            # A folder that is still to be made holds no input, though the one above it may.
            if final.parent.is_dir():
                _refuse_inputs(spec, used, same)
            for other in specs:
                if other is not spec and _folded(other) == _folded(spec):
                    _refuse_same_place(trial, other, _first_file(other, used, like))
    except VidmatteError:
        raise
    except OSError as error:
        raise name_refused(final, error, asked=spec) from error


def _refuse_same_place(trial: Path, other: OutputSpec, file: Path) -> None:
    above = nearest_folder(file.parent)
    is_same_folder = os.path.lexists(above / trial.name)
    # If the disk ignores case, the tried name is also that of the other output.
    if is_same_folder and os.path.lexists(trial / file.relative_to(above)):
        raise _same_path(other)


def _first_file(spec: OutputSpec, used: InputFiles, like: VideoInfo) -> Path:
    """Return the path of the output with links followed; of images, one with the longest name."""
    name = Path(spec.path).name
    if not spec.format.is_movie:
        # The longest name of a set stands for all: only length and characters can be refused.
        stem = max(used.stems, key=len, default="name")
        name = spec.image_name(number=like.first_number or 0, name=stem)
    return Path(os.path.realpath(spec.folder / name))


def _refuse_inputs(spec: OutputSpec, used: InputFiles, folders: Iterable[Path]) -> None:
    """Raise OptionError if a file in the folders is an input and would be written over."""
    for folder in folders:
        for path in _targets(spec, folder, used):
            found = used.find(path)
            if found is not None:
                raise OptionError(
                    f"{spec}: would be written over an input ({found}); choose another path"
                )


def _check_existing(spec: OutputSpec, used: InputFiles, *, overwrite: bool) -> None:
    existing = sorted(_targets(spec, spec.folder, used))
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise WriteError(
            f"{existing[0]}{more} exists already; use --overwrite to replace it, "
            f"or choose another name"
        )
    for path in existing if spec.format.is_movie else ():
        if not replaceable(path):
            raise WriteError(
                f"{path}: exists already, belongs to another user, and {path.parent.absolute()} "
                f"lets nobody else replace it; choose another name"
            )


def _targets(spec: OutputSpec, folder: Path, used: InputFiles) -> Iterator[Path]:
    """Yield the existing paths in a folder among the possible names of the output."""
    if spec.format.is_movie:
        names = {Path(spec.path).name}
    elif spec.is_named:
        names = {spec.image_name(number=0, name=stem) for stem in used.stems}
    else:
        names = _numbered(spec, folder)
    # lexists asks the disk, so case is ignored if the disk ignores it.
    yield from (folder / name for name in names if os.path.lexists(folder / name))


def _numbered(spec: OutputSpec, folder: Path) -> set[str]:
    """Return the names in a folder that fit a pattern in any case, spelt like the pattern."""
    any_case = re.compile(spec.file_names.pattern, re.IGNORECASE)
    pattern = parse_pattern(spec.path)
    assert pattern is not None  # checked when the spec was made
    names = set()
    for name in os.listdir(folder) if folder.is_dir() else ():
        if spec.file_names.fullmatch(name):
            names.add(name)
        elif any_case.fullmatch(name):
            number = name[len(pattern.before) : len(name) - len(pattern.after)]
            names.add(pattern.before + number + pattern.after)
    return names


def _check_encoder(spec: OutputSpec) -> None:
    if not spec.format.is_movie or spec.format.codec == "avif":
        return
    try:
        av.Codec(spec.format.codec, "w")
    except UnknownCodecError as error:
        raise WriteError(
            f"{spec}: the FFmpeg of this PyAV has no encoder {spec.format.codec}; "
            f"use the wheel of PyAV, or choose another format"
        ) from error


def _check_picture(spec: OutputSpec, like: VideoInfo) -> None:
    """Raise WriteError for a size or a frame rate unknown to the format."""
    form = spec.format
    if like.width < form.smallest[0] or like.height < form.smallest[1]:
        raise WriteError(
            f"{spec}: {form.description} begins at {form.smallest[0]}x{form.smallest[1]} "
            f"pixels, and the frames have {like.width}x{like.height}; choose another format"
        )
    if form.constant_rate and nominal_rate(like.frame_rate) not in _TELEVISION_RATES:
        raise WriteError(
            f"{spec}: {form.extension} knows the frame rates of television only, "
            f"and the source has {float(like.frame_rate):.3f}; choose .mov"
        )
