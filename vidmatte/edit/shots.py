"""The shots of a timeline: which parts of which media are rendered, and with which marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from math import lcm
from pathlib import Path
from typing import Any

from vidmatte.edit.choose import EditOptions, chosen_uses
from vidmatte.edit.media import Media, MediaFinder
from vidmatte.edit.open import open_timeline, rate_in_text
from vidmatte.edit.times import exact_rate
from vidmatte.edit.uses import Joint, Use, uses_of
from vidmatte.errors import OptionError, PromptError, ReadError, VidmatteError
from vidmatte.media.patterns import stem_of
from vidmatte.prompts.files import load_clip

PROMPTS = ".prompts.json"
_LONGEST_STEP = 100
"""Largest number of frames to render for a whole in point."""
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f{}%#@$;]')
"""Characters not allowed in file names, or with a meaning in paths of outputs."""
_SUFFIX = re.compile(
    r"\.(mov|mp4|mxf|mkv|avi|m4v|webm|exr|dpx|png|tiff?|jpe?g|r3d|braw|ari)$", re.I
)


@dataclass(frozen=True)
class EditShot:
    """A part of a media that is rendered once, for one or several uses of it."""

    name: str
    uses: tuple[Use, ...]
    media: Media | None = None
    first: int = 0
    last: int = 0
    """First and last frame of the media, with handles; indices from 0."""
    problem: str = ""
    """Why it cannot be rendered."""

    def entry(self) -> dict[str, Any]:
        """Return the shot as an entry of a manifest, without marks."""
        if self.media is None:
            return {"name": self.name, "input": self.name}
        found: dict[str, Any] = {
            "name": self.name,
            "input": str(self.media.path),
            "start": f"index:{self.first}",
            "end": f"index:{self.last}",
        }
        if self.media.is_sequence:
            found["fps"] = str(self.media.rate)
        return found


@dataclass(frozen=True)
class Edit:
    """A timeline, and the shots that are rendered for it."""

    path: Path
    timeline: Any
    shots: tuple[EditShot, ...]
    joints: tuple[Joint, ...]
    notes: tuple[str, ...] = ()
    """What was decided about clips, in sentences: speeds, uses that were merged."""


def read_edit(path: str | Path, options: EditOptions | None = None) -> Edit:
    """Read a timeline, find its media, and return its shots.

    Uses of one media whose ranges meet, with their handles, become one shot. A use that cannot be
    rendered is a shot with a problem, so that the others can be.

    Raises:
        ReadError: If the timeline cannot be read.
        OptionError: If no clip is chosen.
        MissingExtraError: If OpenTimelineIO is not installed.
    """
    path = Path(path)
    options = options or EditOptions()
    if options.media is not None and not options.media.is_dir():
        raise OptionError(f"--media {options.media}: no such folder; check the path")
    timeline = open_timeline(path, rate=options.rate, sequence=options.sequence)
    uses, joints = uses_of(timeline)
    finder = MediaFinder(path.absolute().parent, options.media, options.root)
    chosen = chosen_uses(uses, timeline, options.choice, path)
    parts = [_part(use, finder, options.handles) for use in chosen]
    stills = [part for part in parts if part.media is not None and part.media.is_still]
    moving = [part for part in parts if part not in stills]
    if not moving:
        raise OptionError(f"{path}: shows only still images there; matte them by themselves")
    shots = tuple(_named(_merged(moving)))
    left_out = dict.fromkeys(part.uses[0].name for part in stills)
    notes = [f"left out: {name} is a still image" for name in left_out]
    return Edit(path, timeline, shots, tuple(joints), (*notes, *_notes(shots)))


def _part(use: Use, finder: MediaFinder, handles: int) -> EditShot:
    """Return the shot of one use."""
    alone = EditShot("", (use,), problem=use.problem)
    if use.problem:
        return alone
    try:
        media = _media_of(use, finder)
        if media.is_still:
            return replace(alone, media=media)
        first, last = _range_of(use, media)
    except ReadError as error:
        return replace(alone, problem=str(error))
    first, last = max(0, first - handles), min(media.frames - 1, last + handles)
    return replace(alone, media=media, first=first, last=last)


def _media_of(use: Use, finder: MediaFinder) -> Media:
    available = use.item.media_reference.available_range
    given = use.rate if available is None else exact_rate(available.start_time.rate)
    media = finder.open(finder.find(use.item), given)
    # A sequence has the rate that the timeline gives it.
    if round(media.rate) != round(given) and not (media.is_sequence or media.is_still):
        raise ReadError(
            f"the timeline takes its media for {rate_in_text(given)} frames/s, and {media.path} "
            f"has {rate_in_text(media.rate)}; link the media again in the editing program"
        )
    return media


def _range_of(use: Use, media: Media) -> tuple[int, int]:
    """Return the first and last frame of the media that a use shows. Raises ReadError."""
    available = use.item.media_reference.available_range
    first, last = use.frames_from(media.clock(available), media.rate)
    # A part of a frame, from a clip at another rate than the timeline.
    is_rounded = round(use.timeline_rate) != round(media.rate) or use.speed.factor != 1
    if is_rounded and last == media.frames:
        last -= 1
    if first < 0 or last >= media.frames:
        clock = "" if available or media.timecode else ", which has no timecode"
        raise ReadError(
            f"it shows frames {first} to {last} of {media.path}{clock}, which has frames 0 to "
            f"{media.frames - 1}; link the whole media again"
        )
    return first, last


def _merged(parts: Sequence[EditShot]) -> list[EditShot]:
    """Return the shots with those of one media merged whose ranges meet, in order of first use."""
    order = {id(part): number for number, part in enumerate(parts)}
    found: list[tuple[int, EditShot]] = []
    ranges: dict[Path, list[EditShot]] = {}
    problems: dict[tuple[str, str], int] = {}
    for part in parts:
        if part.media is not None:
            ranges.setdefault(part.media.path, []).append(part)
            continue
        # One reason is said once for all uses of a clip.
        key = (part.uses[0].name, part.problem)
        if key not in problems:
            problems[key] = order[id(part)]
            found.append((order[id(part)], part))
    for each in ranges.values():
        for group in _groups(sorted(each, key=lambda part: (part.first, part.last))):
            first = min(order[id(part)] for part in group)
            uses = sorted(group, key=lambda part: order[id(part)])
            last = max(part.last for part in group)
            together = tuple(use for part in uses for use in part.uses)
            start = _aligned(group[0].first, together)
            found.append((first, replace(group[0], uses=together, first=start, last=last)))
    return [shot for _, shot in sorted(found, key=lambda pair: pair[0])]


def _aligned(first: int, uses: Sequence[Use]) -> int:
    """Return the first frame to render, early enough to be a whole in point at each speed.

    Final Cut Pro XML counts in points in retimed frames from the start of a media: at 200 %, a
    matte has to begin an even number of frames into its source.
    """
    steps = [use.speed.factor.numerator for use in uses if use.speed.counts_retimed]
    step = lcm(*steps)
    # Hundreds of frames for one in point are too many; then the file is told to be inexact.
    return first if step > _LONGEST_STEP else first - first % step


def _groups(parts: Sequence[EditShot]) -> Iterator[list[EditShot]]:
    """Yield parts of one media, sorted by their first frame, whose ranges meet."""
    group: list[EditShot] = []
    end = -1
    for part in parts:
        if group and part.first > end + 1:
            yield group
            group = []
        group.append(part)
        end = max(end, part.last) if len(group) > 1 else part.last
    if group:
        yield group


def _named(shots: Sequence[EditShot]) -> Iterator[EditShot]:
    taken: set[str] = set()
    for shot in shots:
        plain = _SUFFIX.sub("", shot.uses[0].name.strip())
        base = _NOT_IN_NAMES.sub("_", plain).strip(". ") or "shot"
        for number in count(1):
            name = base if number == 1 else f"{base}_{number}"
            if name.casefold() not in taken:
                break
        taken.add(name.casefold())
        yield replace(shot, name=name)


def _notes(shots: Sequence[EditShot]) -> Iterator[str]:
    for shot in shots:
        if shot.media is None:
            continue
        speeds = sorted({use.speed.factor for use in shot.uses} - {Fraction(1)})
        if speeds:
            said = " and ".join(f"{float(100 * speed):g} %" for speed in speeds)
            yield f"{shot.name}: runs at {said} speed; its mattes are in source time"
        rate = shot.uses[0].timeline_rate
        if round(rate) != round(shot.media.rate):
            yield (
                f"{shot.name}: has {rate_in_text(shot.media.rate)} frames/s in a timeline of "
                f"{rate_in_text(rate)}; its mattes have the rate of the source"
            )
        if len(shot.uses) > 1:
            yield f"{shot.name}: is rendered once for {len(shot.uses)} uses"


def marks_of(shot: EditShot, folder: Path) -> dict[str, str]:
    """Return the marks of a shot as keys of a manifest.

    They are those beside its media, as the picker saves them. Without those, a file
    NAME.prompts.json in `folder`, with the name of one of its clips, serves all clips of this name:
    its marks were made on a clip that the file names, which is the reference.

    Raises:
        PromptError: If nothing is marked, or the clip of the reference is missing.
    """
    assert shot.media is not None
    beside = _marks_beside(shot.media.path)
    if beside is not None:
        return {"prompts": str(beside)}
    names = [_SUFFIX.sub("", use.name.strip()) for use in shot.uses]
    for name in dict.fromkeys([shot.name, *names, stem_of(shot.media.path)]):
        path = folder / f"{_NOT_IN_NAMES.sub('_', name)}{PROMPTS}"
        if path.is_file():
            return _marks_of_name(path, shot.media)
    raise PromptError(
        f"it is not marked: there is neither {stem_of(shot.media.path)}{PROMPTS} beside "
        f"{shot.media.path} nor {shot.name}{PROMPTS} in {folder}; mark it with 'vidmatte pick'"
    )


def _marks_beside(media: Path) -> Path | None:
    """Return the prompt file of a media; the picker numbers those of clips with the same name."""
    for number in count(1):
        path = media.with_name(f"{stem_of(media)}{'' if number == 1 else f'-{number}'}{PROMPTS}")
        if not path.is_file():
            return None
        clip = load_clip(path)
        if clip is None or Path(clip.name).name == media.name:
            return path
    raise AssertionError  # the numbers do not end


def _marks_of_name(path: Path, media: Media) -> dict[str, str]:
    clip = load_clip(path)
    if clip is None or Path(clip.name).name == media.path.name:
        return {"prompts": str(path)}
    reference = path.parent / clip.name
    if not reference.exists() and not any(_sequence(reference)):
        raise PromptError(f"{path}: was made on {clip.name}, which is not beside it; put it there")
    return {"prompts": str(path), "reference": str(reference)}


def _sequence(pattern: Path) -> Iterator[Path]:
    place = re.compile(r"%0?\d*d|#+")
    if place.search(pattern.name):
        yield from pattern.parent.glob(place.sub("*", pattern.name))


Entry = tuple[Mapping[str, Any], VidmatteError | None]
"""Keys of a manifest for a shot, and why it cannot be rendered."""


def entries_of(edit: Edit, *, marked: bool) -> list[Entry]:
    """Return the entries of a manifest for all shots, each with its problem.

    Args:
        edit: The timeline.
        marked: Whether the marks of all shots are given elsewhere, so that none are looked for.
    """
    return [_entry_of(shot, edit.path.absolute().parent, marked) for shot in edit.shots]


def _entry_of(shot: EditShot, folder: Path, marked: bool) -> Entry:
    if shot.problem:
        return shot.entry(), ReadError(shot.problem)
    if marked:
        return shot.entry(), None
    try:
        return {**shot.entry(), **marks_of(shot, folder)}, None
    except PromptError as error:
        return shot.entry(), error
