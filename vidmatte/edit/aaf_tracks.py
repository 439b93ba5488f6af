"""Tracks of mattes in an AAF of Avid Media Composer: the given file, with tracks added by pyaaf2.

OpenTimelineIO's adapter would write the timeline anew, without the effects and speeds of its clips.
(Specification: AMWA, "AAF Object Specification" and "AAF Edit Protocol".)
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

from vidmatte.edit.place import Leftovers, MatteFile, MatteTrack, Placed
from vidmatte.edit.uses import Joint
from vidmatte.media.timecode import nominal_rate

_PICTURE = "picture"
# Defined by the AAF Edit Protocol.
_SPEED_EFFECT = UUID("9d2ea890-0968-11d3-8a38-0050040ef7d2")
_SPEED_RATIO = UUID("72559a80-24d7-11d3-8a50-0050040ef7d2")
_SPEED_NAME = "Motion Control"


def write(
    path: Path,
    out: Path,
    name: str,
    tracks: Sequence[MatteTrack],
    rate: Fraction,
    leftovers: Leftovers,
) -> None:
    """Write the file with tracks of mattes above those of its sequence.

    Args:
        path: The given timeline.
        out: The file to write.
        name: Name of the sequence.
        tracks: The new tracks.
        rate: Frames per second of the sequence.
        leftovers: Is told what the tracks cannot hold.

    Raises OSError if it cannot be written.
    """
    import aaf2

    shutil.copyfile(path, out)
    with aaf2.open(str(out), "rw") as file:
        writer = _Writer(file, rate, leftovers)
        sequence = _sequence(file, name)
        for track in tracks:
            writer.add(track, sequence)


def _sequence(file: Any, name: str) -> Any:
    """Return the composition that the adapter has read: the top one of this name."""
    found = list(file.content.toplevel()) or list(file.content.compositionmobs())
    return next((mob for mob in found if mob.name == name), found[0])


class _Writer:
    """Adds tracks, and the mobs of their files."""

    def __init__(self, file: Any, rate: Fraction, leftovers: Leftovers) -> None:
        self._file = file
        self._rate = nominal_rate(rate) or rate
        self._leftovers = leftovers
        self._masters: dict[Path, Any] = {}

    def add(self, track: MatteTrack, mob: Any) -> None:
        """Add a track to a composition."""
        number = 1 + max((_video_number(slot) for slot in mob.slots), default=0)
        transitions = self._transitions(track, mob)
        slot = mob.create_timeline_slot(edit_rate=str(self._rate))
        slot.name = track.name
        slot["PhysicalTrackNumber"].value = number
        sequence = self._file.create.Sequence(media_kind=_PICTURE)
        slot.segment = sequence
        at = length = 0
        for part in track.parts():
            if isinstance(part, Joint):
                if part.cut in transitions:
                    made = transitions[part.cut].copy()
                    sequence.components.append(made)
                    # Its clips overlap for as long as it lasts.
                    length -= made.length
                continue
            end = part.end if isinstance(part, Placed) else at + part[1]
            # A transition shows more of both its neighbours.
            before = int(transitions[at].cutpoint) if at in transitions else 0
            tail = transitions.get(end)
            after = 0 if tail is None else int(tail.length) - int(tail.cutpoint)
            if isinstance(part, Placed):
                component = self._clip(part, before, after)
            else:
                component = self._file.create.Filler(_PICTURE, part[1] + before + after)
            sequence.components.append(component)
            length += component.length
            at = end
        sequence.length = length

    def _transitions(self, track: MatteTrack, mob: Any) -> dict[int, Any]:
        """Return the transitions of the composition to copy for those of a track, by their cut."""
        known = {
            (int(each.length), int(each.cutpoint)): each
            for slot in mob.slots
            for each in _components(slot)
            if type(each).__name__ == "Transition" and str(each.media_kind) == "Picture"
        }
        found = {}
        for joint in track.joints:
            before, after = (
                round(each.value) for each in (joint.item.in_offset, joint.item.out_offset)
            )
            if (before + after, before) in known:
                found[joint.cut] = known[before + after, before]
            else:
                self._leftovers.add(
                    f"{track.name}: the transition at frame {joint.cut} is a cut in .aaf; the "
                    f".otio has it"
                )
        return found

    def _clip(self, placed: Placed, before: int, after: int) -> Any:
        length = placed.end - placed.start + before + after
        factor = placed.use.speed.factor
        shown = round(length * factor)
        master = self._masters.get(placed.file.path) or self._master(placed.file)
        start = round(placed.offset - before * factor)
        clip = self._leading_to(master, shown, start=start)
        return clip if factor == 1 else self._at_speed(clip, length, factor)

    def _master(self, file: MatteFile) -> Any:
        """Return the master mob of a file: it leads to the file, and that to its timecode."""
        create = self._file.create
        rate = str(nominal_rate(file.rate) or file.rate)
        tape = create.SourceMob()
        tape.name = file.first_file.stem
        tape.descriptor = create.ImportDescriptor()
        tape_slot, clock = tape.create_tape_slots(
            file.first_file.stem,
            edit_rate=rate,
            timecode_fps=round(file.rate),
            drop_frame=";" in (file.timecode or ""),
        )
        # Readers look for the timecode on this track.
        clock["PhysicalTrackNumber"].value = 1
        clock.segment.start, clock.segment.length = file.start, file.frames
        tape_slot.segment.length = file.frames
        source = create.SourceMob()
        source.name = file.first_file.stem
        source.descriptor = self._descriptor(file, rate)
        master = create.MasterMob(file.first_file.stem)
        self._file.content.mobs.extend([tape, source, master])
        for mob, target in ((source, tape), (master, source)):
            slot = mob.create_timeline_slot(edit_rate=rate, slot_id=1)
            slot.segment = self._leading_to(target, file.frames)
        self._masters[file.path] = master
        return master

    def _leading_to(self, mob: Any, length: int, *, start: int = 0) -> Any:
        """Return a clip of the first slot of a mob."""
        clip = self._file.create.SourceClip(start, length, media_kind=_PICTURE)
        clip.mob, clip.slot_id = mob, 1
        return clip

    def _descriptor(self, file: MatteFile, rate: str) -> Any:
        found = self._file.create.CDCIDescriptor()
        width, height = file.size
        found["ComponentWidth"].value = 10
        found["HorizontalSubsampling"].value = 2
        found["ImageAspectRatio"].value = f"{width}/{height}"
        found["StoredWidth"].value = width
        found["StoredHeight"].value = height
        found["FrameLayout"].value = "FullFrame"
        found["VideoLineMap"].value = [0, 0]
        found["SampleRate"].value = rate
        found["Length"].value = file.frames
        locator = self._file.create.NetworkLocator()
        locator["URLString"].value = file.url
        found["Locator"].append(locator)
        return found

    def _at_speed(self, clip: Any, length: int, factor: Fraction) -> Any:
        """Return a clip with a constant speed."""
        # Made ahead: the factory of pyaaf2 keeps but one class in mind.
        effect, parameter = self._speed_effect(), self._speed_parameter()
        group = self._file.create.OperationGroup(effect, length)
        group.media_kind = _PICTURE
        ratio = self._file.create.ConstantValue(parameter, str(1 / factor))
        group.parameters.append(ratio)
        group.segments.append(clip)
        return group

    def _speed_effect(self) -> Any:
        known = self._file.dictionary.lookup_operationdef(_SPEED_EFFECT)
        if known is not None:
            return known
        made = self._file.create.OperationDef(_SPEED_EFFECT, _SPEED_NAME)
        made.media_kind = _PICTURE
        made["IsTimeWarp"].value = True
        made["NumberInputs"].value = 1
        made["OperationCategory"].value = "OperationCategory_Effect"
        self._file.dictionary.register_def(made)
        return made

    def _speed_parameter(self) -> Any:
        known = self._file.dictionary.lookup_parameterdef(_SPEED_RATIO)
        if known is not None:
            return known
        kind = self._file.dictionary.lookup_typedef("Rational")
        made = self._file.create.ParameterDef(_SPEED_RATIO, "SpeedRatio", "", kind)
        self._file.dictionary.register_def(made)
        return made


def _components(slot: Any) -> Any:
    """Return the parts of a slot that holds a sequence, nothing for others."""
    return getattr(slot.segment, "components", ())


def _video_number(slot: Any) -> int:
    """Return the number of a video track, 0 for all others."""
    is_video = slot.segment is not None and str(slot.segment.media_kind) == "Picture"
    return int(slot.getvalue("PhysicalTrackNumber", 0) or 0) if is_video else 0
