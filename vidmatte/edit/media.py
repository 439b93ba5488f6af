"""Find the media of a clip of a timeline: by its path, else by file name, name or reel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vidmatte.edit.times import exact_rate, frames_at
from vidmatte.errors import OptionError, ReadError
from vidmatte.media.patterns import final_digits, is_pattern, stem_of
from vidmatte.media.timecode import frames_from_midnight
from vidmatte.read import open_video
from vidmatte.read.images import IMAGE_SUFFIXES

_MOVIES = (".mp4", ".mov", ".mkv", ".webm", ".mxf", ".avi", ".m4v", ".mpg", ".ts", ".mts")
_RANGE = re.compile(r"\[\d+-\d+\]|%0?\d*d|#+|@+")
_SOURCE_FILE = re.compile(r"SOURCE FILE:\s*(.+)", re.IGNORECASE)
_DRIVE = re.compile(r"^/?([A-Za-z]):[/\\]")


@dataclass(frozen=True)
class Media:
    """A movie or a sequence of images that a timeline uses."""

    path: Path
    """The file, or the pattern of a sequence."""
    rate: Fraction
    frames: int
    timecode: str | None
    """That of the first frame, as the file has it."""
    first_number: int | None
    """Number of the first file of a sequence."""
    size: tuple[int, int]
    """Width and height."""

    @property
    def is_still(self) -> bool:
        """Whether it is a single image."""
        return self.frames == 1 and self.path.suffix.lower() in IMAGE_SUFFIXES

    @property
    def is_sequence(self) -> bool:
        """Whether it is a sequence of images."""
        return self.first_number is not None

    def clock(self, available: Any | None) -> Fraction:
        """Return the time of the first frame on the clock of the timeline, in frames.

        Args:
            available: The media's range by the timeline. Without it, the timecode of the file
                counts; a sequence without timecode is counted by the numbers of its files.
        """
        if available is not None:
            return frames_at(available.start_time, self.rate)
        if self.timecode is not None:
            return Fraction(frames_from_midnight(self.timecode, self.rate) or 0)
        return Fraction(self.first_number or 0)


@dataclass
class MediaFinder:
    """Finds media for a timeline, and keeps what it found.

    Args:
        folder: Folder of the timeline: its relative paths begin there.
        root: Folder to search, with all folders in it; None for none.
        inside: Refuse media outside of this folder; None for none.
    """

    folder: Path
    root: Path | None = None
    inside: Path | None = None
    _index: dict[str, list[Path]] | None = None
    _opened: dict[tuple[Path, Fraction], Media | str] = field(default_factory=dict)

    def find(self, clip: Any) -> Path:
        """Return the movie or the pattern of images of a clip. Raises ReadError if it is not there.

        It is looked for at its path first. In `root`, the name of the file counts before the names
        of the clip and its reel; of several with one name, the one whose folders are most alike.
        """
        given = _path_of(clip.media_reference)
        for path in self._places(given):
            if found := _existing(path, is_sequence=_is_image_sequence(clip)):
                return found
        names = list(_names(clip, given))
        for name in names:
            if found := self._search(name, given):
                return found
        wanted = given or names[0]
        if self.root is None:
            raise ReadError(
                f"its media {wanted} was not found; name the folder that holds it with --media DIR"
            )
        raise ReadError(
            f"its media was not found: there is no {wanted}, and nothing named "
            f"{' or '.join(dict.fromkeys(names))} in {self.root}"
        )

    def open(self, path: Path, rate: Fraction) -> Media:
        """Return the facts of a media; `rate` is that of sequences.

        Raises ReadError, and OptionError for media outside of `inside`, which is not opened.
        """
        if self.inside is not None and not path.resolve().is_relative_to(self.inside.resolve()):
            raise OptionError(
                f"{path} is outside of --root {self.inside}; choose a path inside of it"
            )
        key = (path, rate)
        if key not in self._opened:
            try:
                self._opened[key] = _facts(path, rate)
            except ReadError as error:
                self._opened[key] = str(error)
        found = self._opened[key]
        if isinstance(found, str):
            raise ReadError(found)
        return found

    def _places(self, given: str | None) -> Iterator[Path]:
        if given is None:
            return
        if os.name == "nt" or not _DRIVE.match(given):
            yield self.folder / given
        # A timeline that came with its media, in the same layout.
        yield self.folder / PurePosixPath(given.replace("\\", "/")).name

    def _search(self, name: str, given: str | None) -> Path | None:
        if self.root is None:
            return None
        if self._index is None:
            self._index = _index_of(self.root)
        found = self._index.get(name.casefold(), [])
        if len(found) < 2:
            return found[0] if found else None
        likeness = {path: _common_folders(path, given) for path in found}
        best = max(likeness.values())
        chosen = [path for path, value in likeness.items() if value == best]
        if len(chosen) > 1:
            raise ReadError(
                f"its media {name} is in {self.root} more than once: {chosen[0]} and {chosen[1]}; "
                f"name a folder with --media that holds one of them"
            )
        return chosen[0]


def _facts(path: Path, rate: Fraction) -> Media:
    # Only its facts are wanted: interlaced and truncated movies are for the run to refuse.
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    opened = (
        open_video(path, frame_rate=rate)
        if is_image
        else open_video(path, deinterlace="keep", allow_truncated=True)
    )
    with opened as video:
        info = video.info
        return Media(
            path,
            exact_rate(float(info.frame_rate)),
            video.count_frames(),
            info.timecode,
            info.first_number,
            (info.width, info.height),
        )


def path_of_url(url: str) -> str:
    """Return the path of a file URL, or of text that is a path already."""
    if not re.match(r"^[A-Za-z][A-Za-z0-9+.-]+:", url):
        return _decoded(url) if "%20" in url else url
    # A number sign is a place of a frame number here, never a fragment.
    path = _decoded(urlsplit(url.replace("#", "%23")).path)
    return path[1:] if _DRIVE.match(path) and path.startswith("/") else path


def _decoded(text: str) -> str:
    """Return text without percent signs of URLs; the place of a frame number (%04d) stays."""
    parts = re.split(r"(%0\d?d)", text)
    return "".join(part if index % 2 else unquote(part) for index, part in enumerate(parts))


def _path_of(reference: Any) -> str | None:
    """Return the path that a media reference names, None if it names none."""
    kind = reference.schema_name()
    if kind == "ExternalReference":
        return path_of_url(reference.target_url) or None
    if kind == "ImageSequenceReference":
        padding = f"%0{reference.frame_zero_padding}d" if reference.frame_zero_padding else "%d"
        name = f"{reference.name_prefix}{padding}{reference.name_suffix}"
        base = path_of_url(reference.target_url_base)
        return f"{base.rstrip('/')}/{name}" if base else name
    return None


def _is_image_sequence(clip: Any) -> bool:
    """Return whether a single image that the clip names stands for a sequence."""
    return bool(clip.trimmed_range().duration.value > 1)


def _existing(path: Path, *, is_sequence: bool) -> Path | None:
    """Return a path as it is to be opened if it is there: a movie, or a pattern of images."""
    if path.is_file():
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        if is_image and is_sequence and final_digits(path.stem) is not None:
            return _pattern_of(path)
        return path
    named = Path(_RANGE.sub(lambda found: _printf(found[0]), path.name))
    if named.name != path.name or is_pattern(path):
        pattern = path.with_name(named.name)
        if any(_files_of(pattern)):
            return pattern
    return None


def _printf(place: str) -> str:
    if place.startswith("["):
        return f"%0{len(place[1:].partition('-')[0])}d"
    return place if place.startswith("%") else f"%0{len(place)}d"


def _pattern_of(image: Path) -> Path:
    digits = re.search(r"\d+$", image.stem)
    assert digits is not None
    name = f"{image.stem[: digits.start()]}%0{len(digits[0])}d{image.suffix}"
    return image.with_name(name)


def _files_of(pattern: Path) -> Iterator[Path]:
    expression = re.compile(r"\d+".join(map(re.escape, re.split(r"%0?\d*d", pattern.name))))
    if pattern.parent.is_dir():
        yield from (each for each in pattern.parent.iterdir() if expression.fullmatch(each.name))


def _names(clip: Any, given: str | None) -> Iterator[str]:
    """Yield names that the media may have, the surest first."""
    if given is not None:
        yield _plain(PurePosixPath(given.replace("\\", "/")).name)
    media = clip.media_reference.name
    yield from (_plain(name) for name in (*_source_files(clip), media, clip.name) if name)
    yield from _reels(clip)


def _plain(name: str) -> str:
    """Return a name as the index has it: without extension and place of the frame number."""
    name = _RANGE.sub("", name)
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in (*_MOVIES, *IMAGE_SUFFIXES):
        return name.rstrip("._-") or name
    is_image = suffix.lower() in IMAGE_SUFFIXES
    plain = re.sub(r"\d+$", "", stem) if is_image else stem
    return (plain.rstrip("._-") or stem) if is_image else stem


def _source_files(clip: Any) -> Iterator[str]:
    """Yield the names of files in remarks of an EDL."""
    for text in clip.metadata.get("cmx_3600", {}).get("comments", ()):
        if found := _SOURCE_FILE.match(str(text)):
            yield PurePosixPath(found[1].replace("\\", "/")).name


def _reels(clip: Any) -> Iterator[str]:
    reel = clip.metadata.get("cmx_3600", {}).get("reel")
    if reel:
        yield str(reel)
    timecode = clip.media_reference.metadata.get("fcp_xml", {}).get("timecode", {})
    named = timecode.get("reel", {}) if hasattr(timecode, "get") else {}
    if hasattr(named, "get") and named.get("name"):
        yield str(named["name"])


def _index_of(root: Path) -> dict[str, list[Path]]:
    """Return the movies and sequences of a folder and those in it, by name without extension."""
    if not root.is_dir():
        raise ReadError(f"--media {root}: no such folder; check the path")
    index: dict[str, list[Path]] = {}
    for folder, _, files in os.walk(root):
        for path in _media_of(Path(folder), sorted(files)):
            index.setdefault(stem_of(path).casefold(), []).append(path)
    return index


def _media_of(folder: Path, files: Sequence[str]) -> Iterator[Path]:
    patterns: dict[Path, None] = {}
    for name in files:
        path = folder / name
        suffix = path.suffix.lower()
        if name.startswith("."):
            continue
        if suffix in _MOVIES:
            yield path
        elif suffix in IMAGE_SUFFIXES and final_digits(path.stem) is not None:
            patterns[_pattern_of(path)] = None
    yield from patterns


def _common_folders(path: Path, given: str | None) -> int:
    """Return how many folders above a file have the names that those of the given path have."""
    if given is None:
        return 0
    wanted = PurePosixPath(given.replace("\\", "/")).parts[-2::-1]
    count = 0
    for one, other in zip(path.parts[-2::-1], wanted, strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count
