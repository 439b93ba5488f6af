"""Write the new timelines of an edit: in the format of the given one, and as .otio."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory

from vidmatte.edit import fcp7xml_tracks, fcpxml_tracks, otio_tracks
from vidmatte.edit.edl import Event, can_drop, write_edl
from vidmatte.edit.open import import_otio
from vidmatte.edit.place import Leftovers, MatteFile, MatteTrack, Placed, matte_tracks
from vidmatte.edit.shots import Edit
from vidmatte.edit.times import frames_at
from vidmatte.edit.uses import Joint, rate_of_timeline
from vidmatte.errors import WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.media.timecode import advance_timecode, nominal_rate

_OTIO = ".otio"


@dataclass(frozen=True)
class NewTimelines:
    """Timelines with mattes that are to be written."""

    path: Path
    """That in OpenTimelineIO; the others are beside it."""
    overwrite: bool = False

    @classmethod
    def of(cls, edit: Edit, path: str | Path | None, *, overwrite: bool) -> NewTimelines:
        """Return the places of the timelines: `path`, or beside the given one."""
        beside = edit.path.with_name(f"{edit.path.stem}.mattes{_OTIO}")
        return cls(beside if path is None else Path(path).with_suffix(_OTIO), overwrite)

    def check(self, edit: Edit) -> None:
        """Raise WriteError if files would be replaced that this program did not write.

        Its own are replaced as long as nobody has changed them: each run adds shots.
        """
        if not self.path.parent.is_dir():
            raise WriteError(f"{self.path}: its folder does not exist; create it first")
        if self.overwrite:
            return
        known = _written_hashes(self.path)
        for path in self._possible(edit):
            if path.exists() and known.get(path.name) != _hash(path):
                raise WriteError(f"{path} exists; replace it with --overwrite, or name another one")

    def _possible(self, edit: Edit) -> list[Path]:
        suffix = edit.path.suffix.lower()
        if suffix in (_OTIO, ".otioz"):
            return [self.path]
        # EDLs of further tracks have numbers.
        numbered = sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}.*.edl"))
        more = numbered if suffix == ".edl" else []
        suffix = ".fcpxml" if suffix == ".fcpxmld" else suffix
        return [self.path, self.path.with_suffix(suffix), *more]

    def write(
        self, edit: Edit, files: Mapping[str, Sequence[MatteFile]]
    ) -> tuple[list[Path], list[str]]:
        """Write the timelines, and return their paths and notes about what is missing in them.

        Raises WriteError if one cannot be written.
        """
        leftovers = Leftovers()
        tracks = matte_tracks(edit, files)
        texts = self._texts(edit, tracks, leftovers)
        made = otio_tracks.with_mattes(edit.timeline, tracks)
        made.metadata[otio_tracks.OURS]["files"] = {
            path.name: hashlib.sha256(data).hexdigest() for path, data in texts.items()
        }
        otio = import_otio()
        texts = {self.path: otio.adapters.write_to_string(made, "otio_json").encode(), **texts}
        for path, data in texts.items():
            try:
                atomic_write(path, data)
            except OSError as error:
                raise WriteError(
                    f"{path}: cannot be written ({error.strerror}); choose another place with "
                    f"--new-timeline"
                ) from error
        return list(texts), leftovers.notes

    def _texts(
        self, edit: Edit, tracks: Sequence[MatteTrack], leftovers: Leftovers
    ) -> dict[Path, bytes]:
        suffix = edit.path.suffix.lower()
        rate = rate_of_timeline(edit.timeline)
        if suffix == ".xml":
            name = edit.timeline.name
            text = fcp7xml_tracks.with_mattes(edit.path, name, tracks, rate, leftovers)
            return {self.path.with_suffix(suffix): text.encode()}
        if suffix in (".fcpxml", ".fcpxmld"):
            text = fcpxml_tracks.with_mattes(edit.path, edit.timeline.name, tracks, rate)
            return {self.path.with_suffix(".fcpxml"): text.encode()}
        if suffix == ".aaf":
            name = edit.timeline.name
            data = _aaf(edit.path, name, tracks, rate, leftovers)
            return {self.path.with_suffix(suffix): data}
        if suffix == ".edl":
            return self._edls(edit, tracks, rate)
        return {}

    def _edls(self, edit: Edit, tracks: Sequence[MatteTrack], rate: Fraction) -> dict[Path, bytes]:
        """Return an EDL for each track: the format has one video track."""
        start = frames_at(otio_tracks.start_of(edit.timeline), rate)
        found = {}
        for number, track in enumerate(tracks, 1):
            place = "" if number == 1 else f".{number}"
            path = self.path.with_name(f"{self.path.stem}{place}.edl")
            drop = can_drop(rate) and _has_drop_times(edit.path)
            title = f"{edit.timeline.name or edit.path.stem} {track.name}"
            events = _events(track, round(start), rate, drop)
            found[path] = write_edl(title, events, rate, drop=drop).encode()
        return found


def _aaf(
    path: Path, name: str, tracks: Sequence[MatteTrack], rate: Fraction, leftovers: Leftovers
) -> bytes:
    """Return the bytes of an AAF, which its library writes into a file."""
    from vidmatte.edit import aaf_tracks

    with TemporaryDirectory(prefix="vidmatte-") as folder:
        made = Path(folder) / "made.aaf"
        aaf_tracks.write(path, made, name, tracks, rate, leftovers)
        return made.read_bytes()


def _has_drop_times(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return "FCM: DROP" in text.upper() or ";" in text


def _events(track: MatteTrack, start: int, rate: Fraction, drop: bool) -> list[Event]:
    """Return the events of a track; those next to a dissolve are as long as it needs."""
    events: list[Event] = []
    dissolve = 0
    for part in track.parts():
        if isinstance(part, Joint):
            # A dissolve of an EDL begins at the cut; the reader has put it there.
            dissolve = round(part.item.out_offset.value)
        elif isinstance(part, Placed):
            events.append(_event(part, start, rate, drop, dissolve if events else 0))
            dissolve = 0
        else:
            dissolve = 0
    return events


def _event(placed: Placed, start: int, rate: Fraction, drop: bool, dissolve: int) -> Event:
    file, use = placed.file, placed.use
    first = floor(placed.offset)
    length = use.length * use.speed.factor
    # Its own rate tells how its timecode counts; 30 and 29.97 are one to an EDL.
    own = file.rate if nominal_rate(file.rate) else rate
    zero = "00:00:00;00" if drop and can_drop(own) else "00:00:00:00"
    times = []
    for frame in (first, first + max(1, round(length))):
        text = advance_timecode(file.timecode or zero, frame, own)
        assert text is not None
        times.append(text)
    return Event(
        file.first_file.name,
        str(file.first_file.absolute()),
        (times[0], times[1]),
        (start + placed.start, start + placed.end),
        dissolve,
        use.speed.factor,
    )


def _hash(path: Path) -> str:
    if path.suffix == _OTIO:
        return _stored(path)[0]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stored(path: Path) -> tuple[str, str, dict[str, str]]:
    """Return what an .otio says of itself: the fingerprint that it was written with, that which it
    has now, and the hashes of the files that were written with it; all empty if it is not ours.
    """
    otio = import_otio()
    try:
        made = otio.adapters.read_from_file(str(path), "otio_json")
    except (otio.exceptions.OTIOError, ValueError, OSError):
        return "", "", {}
    if made.schema_name() != "Timeline" or otio_tracks.OURS not in made.metadata:
        return "", "", {}
    facts = made.metadata[otio_tracks.OURS]
    files = {str(name): str(digest) for name, digest in facts["files"].items()}
    return str(facts["fingerprint"]), otio_tracks.fingerprint(made), files


def _written_hashes(path: Path) -> dict[str, str]:
    """Return the hashes of the files that an earlier run wrote, by name."""
    if not path.is_file():
        return {}
    _, now, files = _stored(path)
    return {path.name: now, **files} if now else {}
