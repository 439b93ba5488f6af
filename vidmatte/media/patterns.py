"""Names of numbered frames: `%04d`, `####`, `@@@@` and `$F4`, and of views, for in- and outputs.

A name has at most one place for the frame number. A single `#` is a place only if there is no
other one and no digit follows: in `take#2.%04d.png` and `take#2.mov` it is plain text. A range of
what is read stands before the place, as fileseq writes it: `shot.1001-1100####.exr`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vidmatte.errors import OptionError, ReadError

NAME = "{name}"
"""The place for the name of an image, in paths of image sets."""

_PLACE = re.compile(
    r"%0?(?P<printf>\d*)d"  # FFmpeg and most scripts
    r"|\$F(?P<houdini>\d*)(?![A-Za-z])"
    r"|(?P<padding>##+|@@+)"  # Nuke and RV; Shake
)
_SINGLE_HASH = re.compile(r"(?P<padding>#)(?!\d)")
_NEGATIVE = re.compile(r"(?:^|[._ ])-(\d+)$")
"""A number below zero at the end of a name. In `shot-0001` the dash separates; `shot.-001` is
-1."""
_SPAN = re.compile(r"(?<!\d)(\d+)-(\d+)$")
_TRAILING = re.compile(r"(\d+)$")
_VIEW = re.compile(r"%([Vv])")
_TILES = re.compile(r"<(UDIM|UVTILE|U|V|u|v)>|%\(UDIM\)d", re.IGNORECASE)


@dataclass(frozen=True)
class FramePattern:
    """A file name with a place for the frame number."""

    before: str
    after: str
    digits: int = 1
    """Least number of digits; numbers are filled up with zeros."""

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last number of a range before the place, as in `shot.1001-1100####.exr`."""
        found = _SPAN.search(self.before)
        return None if found is None else (int(found[1]), int(found[2]))

    @property
    def whole(self) -> FramePattern:
        """The pattern without its range."""
        return replace(self, before=_SPAN.sub("", self.before))

    def name_of(self, number: int) -> str:
        """Return the file name of a frame number."""
        return f"{self.before}{number:0{self.digits}d}{self.after}"

    def number_of(self, name: str) -> int | None:
        """Return the frame number of a file name, None if the name does not match.

        A number is matched if it has at least `digits` digits. It may be negative: callers refuse
        that (see `refuse_negative`) so that such frames are not left out without a word.
        """
        found = self._expression().fullmatch(name)
        return int(found["number"]) if found else None

    def _expression(self) -> re.Pattern[str]:
        # The minus counts as one of the digits, as it does in printf.
        negative = rf"-\d{{{max(1, self.digits - 1)},}}"
        number = rf"(?P<number>\d{{{self.digits},}}|{negative})"
        return re.compile(f"{re.escape(self.before)}{number}{re.escape(self.after)}")


def parse_pattern(path: str | Path) -> FramePattern | None:
    """Return the pattern in the file name of a path, None if it has no place for a number.

    Raises:
        OptionError: If the name has more than one place.
    """
    name = Path(path).name
    places = _places(name)
    if len(places) > 1:
        raise OptionError(
            f"{path}: has more than one place for the frame number "
            f"({' and '.join(place[0] for place in places)}); keep one of them"
        )
    if not places:
        return None
    (place,) = places
    groups = place.groupdict()
    padding = groups["padding"] or ""
    digits = len(padding) or int(groups.get("printf") or groups.get("houdini") or 1)
    return FramePattern(name[: place.start()], name[place.end() :], max(1, digits))


def with_view(path: str | Path, view: str | None) -> str | Path:
    """Return a path with the name of a view in place of %V, and its first letter in place of %v.

    Raises:
        OptionError: If the path has such a place, and no view is given.
    """
    if not _VIEW.search(str(path)) or Path(path).exists():
        return path
    if view is None:
        raise OptionError(
            f"{path}: %V stands for the view of stereo footage; choose it with --view left, say"
        )
    named = _VIEW.sub(lambda found: view if found[1] == "V" else view[:1], str(path))
    return named if isinstance(path, str) else Path(named)


def refuse_tiles(path: str | Path) -> None:
    """Raise OptionError for a pattern of texture tiles, such as <UDIM>."""
    found = _TILES.search(str(path))
    if found and not Path(path).exists():
        raise OptionError(
            f"{path}: {found[0]} stands for tiles of a texture, which are no frames of a clip; "
            f"give a pattern of frame numbers such as %04d, or --images for independent images"
        )


def _places(name: str) -> list[re.Match[str]]:
    return list(_PLACE.finditer(name)) or list(_SINGLE_HASH.finditer(name))


def is_pattern(path: str | Path) -> bool:
    """Return whether a path names numbered frames; an existing file of this very name does not."""
    return bool(_places(Path(path).name)) and not Path(path).exists()


def matching_names(path: str | Path) -> re.Pattern[str]:
    """Return the expression for all possible file names of a path.

    The path may have a place for the frame number, or `{name}` for the name of an image; else it
    matches its own name only. A number may have any number of digits, so that `%04d` and `%06d`
    are found to collide; negative numbers are not matched.

    Raises:
        OptionError: If the name has more than one place for the frame number.
    """
    name = Path(path).name
    if NAME in name:
        return re.compile(".+".join(re.escape(part) for part in name.split(NAME)))
    pattern = parse_pattern(path)
    if pattern is None:
        return re.compile(re.escape(name))
    # What is read may have a range in front of the place, which its files do not have.
    befores = {re.escape(each.before) for each in (pattern, pattern.whole)}
    return re.compile(rf"(?:{'|'.join(sorted(befores))})\d+{re.escape(pattern.after)}")


def trailing_number(path: str | Path) -> int | None:
    """Return the frame number at the end of a name without its extension, None if there is none.

    `shot-0001.png` is 1; `shot.-001.png` is -1, as Maya and Houdini write it.
    """
    stem = Path(path).stem
    if found := _NEGATIVE.search(stem):
        return -int(found[1])
    return final_digits(stem)


def final_digits(stem: str) -> int | None:
    """Return the digits at the end of a name as a number, None if there are none; no sign."""
    found = _TRAILING.search(stem)
    return int(found[1]) if found else None


def refuse_negative(files: Mapping[int, Path]) -> None:
    """Raise ReadError if one of the frames has a negative number."""
    first = min(files, default=0)
    if first < 0:
        raise ReadError(
            f"{files[first]}: has the frame number {first}, but frames are numbered from 0 up; "
            f"renumber the sequence, or move the frames below 0 out of its folder"
        )


def stem_of(source: str | Path) -> str:
    """Return the name of a clip: its file name without extension and place of the frame number.

    `shots/plate.####.exr` is "plate". A folder has its own name, and frames that are named by
    nothing but their number have the name of their folder.
    """
    path = Path(source)
    if path.is_dir():
        return path.resolve().name
    pattern = parse_pattern(path) if is_pattern(path) else None
    if pattern is None:
        return path.stem or path.resolve().parent.name
    # What separates the number from the name goes with it.
    before = re.sub(r"[._-]$", "", pattern.whole.before)
    stem = Path(before + pattern.after).stem if before else Path(f"x{pattern.after}").stem[1:]
    return stem or path.resolve().parent.name
