"""Where mattes go in a timeline: frame for frame over the clips that they were made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

from vidmatte.edit.media import Media
from vidmatte.edit.shots import Edit, EditShot
from vidmatte.edit.times import exact_rate
from vidmatte.edit.uses import Joint, Lane, Use
from vidmatte.errors import ReadError
from vidmatte.media.patterns import is_pattern, parse_pattern
from vidmatte.media.timecode import frames_from_midnight
from vidmatte.read import open_video


@dataclass(frozen=True)
class MatteFile:
    """A matte that was rendered for a shot."""

    path: Path
    """The movie, or the pattern of images."""
    label: str
    """What it is: "alpha", "colour", or "alpha hero" for one object of several."""
    rate: Fraction
    frames: int
    timecode: str | None
    """That of its first frame, as the file has it."""
    size: tuple[int, int]
    first_number: int = 0
    """Number of the first file of a sequence."""

    @property
    def start(self) -> int:
        """The time of its first frame in frames: its timecode, else 0."""
        if self.timecode is None:
            return 0
        return frames_from_midnight(self.timecode, self.rate) or 0

    @property
    def is_sequence(self) -> bool:
        """Whether it is a pattern of images."""
        return is_pattern(self.path)

    @property
    def first_file(self) -> Path:
        """The movie, or the first image."""
        pattern = parse_pattern(self.path) if self.is_sequence else None
        if pattern is None:
            return self.path
        return self.path.with_name(pattern.name_of(self.first_number))

    @property
    def url(self) -> str:
        """Address that editing programs link by: the absolute path."""
        return self.first_file.absolute().as_uri()


def open_matte(path: Path, label: str, media: Media) -> MatteFile:
    """Return the facts of a written matte. Raises ReadError if it cannot be read."""
    with open_video(path, frame_rate=media.rate if is_pattern(path) else None) as video:
        info = video.info
        return MatteFile(
            path,
            label,
            exact_rate(float(info.frame_rate)),
            video.count_frames(),
            info.timecode,
            (info.width, info.height),
            info.first_number or 0,
        )


@dataclass(frozen=True)
class Placed:
    """A matte on a timeline, over one use of its clip."""

    use: Use
    file: MatteFile
    offset: Fraction
    """First frame of the matte that is shown, from its beginning, in frames of `rate`."""
    rate: Fraction
    """Frames per second of its times: those of the clip if they count the same frames."""

    @property
    def start(self) -> int:
        """First frame on the timeline."""
        return self.use.first_frame

    @property
    def end(self) -> int:
        """Frame after the last on the timeline."""
        return self.use.first_frame + self.use.length

    @property
    def name(self) -> str:
        """The name of the file without extension."""
        return self.file.first_file.stem


@dataclass(frozen=True)
class MatteTrack:
    """A new video track of mattes, over one track of the timeline."""

    name: str
    lane: Lane
    placed: tuple[Placed, ...]
    joints: tuple[Joint, ...]
    """Transitions between its mattes, or between one and nothing."""

    def parts(self) -> Iterator[Placed | Joint | tuple[int, int]]:
        """Yield mattes, transitions and gaps in order; a gap is its first frame and its length."""
        joints = {joint.cut: joint for joint in self.joints}
        at = 0
        for placed in self.placed:
            if placed.start > at:
                if at and at in joints:
                    yield joints[at]
                yield at, placed.start - at
            if placed.start in joints:
                yield joints[placed.start]
            yield placed
            at = placed.end
        if at in joints:
            yield joints[at]
            # What it goes over to is empty, and has to be there.
            yield at, _out_frames(joints[at])


def _out_frames(joint: Joint) -> int:
    return max(1, int(joint.item.out_offset.value))


def matte_tracks(edit: Edit, files: Mapping[str, Sequence[MatteFile]]) -> list[MatteTrack]:
    """Return the tracks of mattes, to be laid above all others, the lowest first.

    Args:
        edit: The timeline.
        files: The mattes by name of shot. Shots without any leave gaps.
    """
    found: dict[tuple[Lane, str], list[Placed]] = {}
    names: dict[Lane, str] = {}
    for shot in edit.shots:
        for use in shot.uses:
            names.setdefault(use.lane, use.track or f"V{use.lane[0] + 1}")
            for file in files.get(shot.name, ()):
                found.setdefault((use.lane, file.label), []).append(_placed(shot, use, file))
    tracks: list[MatteTrack] = []
    # Colour below its alpha, so that the alpha can be switched off or used as a track matte.
    order = sorted(found, key=lambda key: (key[0][0], key[1].startswith("alpha"), key[1], key[0]))
    for lane, label in order:
        placed = sorted(found[lane, label], key=lambda each: each.start)
        name = f"{names[lane]} {label}"
        own = MatteTrack(name, lane, tuple(placed), tuple(_joints_at(edit, lane, placed)))
        # A nested sequence goes between the clips around it, if nothing is in its way.
        last = tracks[-1] if tracks and tracks[-1].name == name else None
        if last is not None and last.lane[0] == lane[0] and not _overlap(last.placed, placed):
            tracks[-1] = _together(last, own)
        else:
            tracks.append(own)
    return tracks


def _joints_at(edit: Edit, lane: Lane, placed: Sequence[Placed]) -> Iterator[Joint]:
    cuts = {each.start for each in placed} | {each.end for each in placed}
    yield from (joint for joint in edit.joints if joint.lane == lane and joint.cut in cuts)


def _overlap(some: Sequence[Placed], others: Sequence[Placed]) -> bool:
    spans = sorted((each.start, each.end) for each in (*some, *others))
    return any(after[0] < before[1] for before, after in pairwise(spans))


def _together(one: MatteTrack, other: MatteTrack) -> MatteTrack:
    placed = sorted((*one.placed, *other.placed), key=lambda each: each.start)
    return replace(one, placed=tuple(placed), joints=(*one.joints, *other.joints))


def _placed(shot: EditShot, use: Use, file: MatteFile) -> Placed:
    media = shot.media
    assert media is not None
    available = use.item.media_reference.available_range
    index = use.at(media.rate) - media.clock(available)
    offset = index - shot.first
    same = round(use.rate) == round(media.rate)
    return Placed(use, file, offset if same else offset / media.rate * use.rate, use.rate)


def matte_frame(placed: Placed, frame: int, media: Media) -> int:
    """Return the frame of a matte that the new timeline shows at one of its frames."""
    use = placed.use
    step = use.speed.factor
    if round(use.timeline_rate) != round(placed.rate):
        step *= placed.rate / use.timeline_rate
    at = placed.offset + (frame - use.span.start) * step
    same = round(placed.rate) == round(media.rate)
    return floor(at if same else at / placed.rate * media.rate)


@dataclass
class Leftovers:
    """What a format could not hold, in sentences."""

    notes: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add a sentence once."""
        if text not in self.notes:
            self.notes.append(text)


def labels_of(specs: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Yield outputs with their labels: "alpha", "colour", with the name of one of several objects.

    Two outputs of one kind are told apart by their extensions.
    """
    listed = list(specs)
    several = len({spec.object_name for spec in listed}) > 1
    taken: set[str] = set()
    for spec in listed:
        label = "alpha" if spec.alpha_only else "colour"
        if several and spec.object_name:
            label += f" {spec.object_name}"
        if label in taken:
            label += f" {Path(spec.path).suffix.lstrip('.')}"
        taken.add(label)
        yield spec, label


def mattes_of(
    edit: Edit, specs: Mapping[str, Sequence[Any]], leftovers: Leftovers
) -> dict[str, list[MatteFile]]:
    """Return the mattes that were written for shots.

    Args:
        edit: The timeline.
        specs: The outputs (`write.OutputSpec`) by name of each rendered shot.
        leftovers: Is told which files cannot be read, or have not the frames of their shot.
    """
    found: dict[str, list[MatteFile]] = {}
    for shot in edit.shots:
        for spec, label in labels_of(specs.get(shot.name, ())):
            assert shot.media is not None
            try:
                file = open_matte(Path(spec.path), label, shot.media)
                _check_length(shot, file)
            except ReadError as error:
                leftovers.add(f"not in the new timeline: {error}")
                continue
            found.setdefault(shot.name, []).append(file)
    return found


def _check_length(shot: EditShot, file: MatteFile) -> None:
    """Raise ReadError if a matte has not the frames of its shot."""
    wanted = shot.last - shot.first + 1
    if file.frames != wanted:
        raise ReadError(
            f"{file.path}: has {file.frames} frames, and {shot.name} needs {wanted}; render it "
            f"again with --overwrite"
        )
