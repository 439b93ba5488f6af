"""Tracks of mattes in Final Cut Pro 7 XML, which Premiere Pro and DaVinci Resolve read and write.

The given file is kept with its effects, titles and sound, which OpenTimelineIO's adapter would
leave out; tracks are added to its sequence.
(Specification: Apple, "Final Cut Pro XML Interchange Format", version 5.)
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vidmatte.edit.place import Leftovers, MatteFile, MatteTrack, Placed
from vidmatte.edit.uses import Joint
from vidmatte.media.timecode import advance_timecode, nominal_rate

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n'


def with_mattes(
    path: Path, name: str, tracks: Sequence[MatteTrack], rate: Fraction, leftovers: Leftovers
) -> str:
    """Return the file with tracks of mattes above the video tracks of a sequence.

    Args:
        path: The given timeline.
        name: Name of the sequence.
        tracks: The new tracks.
        rate: Frames per second of the sequence.
        leftovers: Is told what the format cannot hold.
    """
    root = ElementTree.fromstring(path.read_bytes())
    video = _video_of(_sequence(root, name))
    ids = _Ids(root)
    for track in tracks:
        video.append(_Track(track, rate, ids, leftovers).element())
    ElementTree.indent(root)
    return _HEAD + ElementTree.tostring(root, encoding="unicode") + "\n"


def _sequence(root: Element, name: str) -> Element:
    """Return the sequence that the adapter has read: a whole one of this name."""
    found = [*root.findall("./sequence"), *root.findall(".//children/sequence")]
    named = [each for each in found if (each.findtext("name") or "") == name]
    # A sequence may be written whole in a clip before, and only be referred to here.
    whole = [each for each in root.iter("sequence") if each.find("media") is not None]
    known = {each.get("id"): each for each in whole}
    chosen = (named or found)[0]
    return chosen if chosen.find("media") is not None else known[chosen.get("id")]


def _video_of(sequence: Element) -> Element:
    media = sequence.find("media")
    assert media is not None
    video = media.find("video")
    assert video is not None
    return video


class _Ids:
    """Identifiers that the file does not have yet."""

    def __init__(self, root: Element) -> None:
        self._taken = {each.get("id") for each in root.iter()}
        self._files: dict[Path, str] = {}

    def fresh(self, kind: str) -> str:
        number = 1
        while f"{kind}-vidmatte-{number}" in self._taken:
            number += 1
        found = f"{kind}-vidmatte-{number}"
        self._taken.add(found)
        return found

    def of_file(self, path: Path) -> tuple[str, bool]:
        """Return the identifier of a file, and whether it was named before."""
        is_known = path in self._files
        return self._files.setdefault(path, "") or self._add(path), is_known

    def _add(self, path: Path) -> str:
        self._files[path] = self.fresh("file")
        return self._files[path]


class _Track:
    """Writes one track of mattes."""

    def __init__(self, track: MatteTrack, rate: Fraction, ids: _Ids, leftovers: Leftovers) -> None:
        self._track = track
        self._rate = rate
        self._ids = ids
        self._leftovers = leftovers
        self._joints = {joint.cut: joint for joint in track.joints if self._is_written(joint)}
        for joint in track.joints:
            if joint.cut not in self._joints:
                leftovers.add(
                    f"{track.name}: the transition at frame {joint.cut} is a cut in .xml, which "
                    f"has only transitions that begin, end or are centred at the cut"
                )

    def element(self) -> Element:
        track = Element("track")
        for part in self._track.parts():
            if isinstance(part, Placed):
                track.append(self._clip(part))
            elif isinstance(part, Joint) and part.cut in self._joints:
                track.append(self._transition(part))
        _text(track, "enabled", "TRUE")
        _text(track, "locked", "FALSE")
        return track

    def _offsets(self, joint: Joint) -> tuple[int, int]:
        return round(joint.item.in_offset.value), round(joint.item.out_offset.value)

    def _is_written(self, joint: Joint) -> bool:
        before, after = self._offsets(joint)
        return before == after or not before or not after

    def _transition(self, joint: Joint) -> Element:
        before, after = self._offsets(joint)
        item = Element("transitionitem")
        item.append(_rate(self._rate))
        _text(item, "start", joint.cut - before)
        _text(item, "end", joint.cut + after)
        both = before and after
        _text(item, "alignment", "center" if both else "end" if before else "start")
        effect = SubElement(item, "effect")
        for tag, value in (
            ("name", "Cross Dissolve"),
            ("effectid", "Cross Dissolve"),
            ("effectcategory", "Dissolve"),
            ("effecttype", "transition"),
            ("mediatype", "video"),
        ):
            _text(effect, tag, value)
        return item

    def _clip(self, placed: Placed) -> Element:
        file, use = placed.file, placed.use
        factor = use.speed.factor
        # In and out count the frames that are left after the change of speed.
        begin = placed.offset / factor
        if factor != 1 and begin.denominator != 1:
            self._leftovers.add(
                f"{placed.name}: its in point at {float(100 * factor):g} % is a part of a frame, "
                f"which .xml rounds; the .otio is exact"
            )
        per_frame = placed.rate / use.timeline_rate
        same = round(placed.rate) == round(use.timeline_rate)
        step = Fraction(1) if same else per_frame
        end = begin + (placed.end - placed.start) * step
        start, stop = str(placed.start), str(placed.end)
        if joint := self._joints.get(placed.start):
            begin, start = begin - self._offsets(joint)[0] * step, "-1"
        if joint := self._joints.get(placed.end):
            end, stop = end + self._offsets(joint)[1] * step, "-1"
        clip = Element("clipitem", id=self._ids.fresh("clipitem"))
        _text(clip, "name", placed.name)
        _text(clip, "enabled", "TRUE")
        _text(clip, "duration", round(_frames_at(file, placed.rate) / factor))
        clip.append(_rate(placed.rate))
        _text(clip, "start", start)
        _text(clip, "end", stop)
        _text(clip, "in", round(begin))
        _text(clip, "out", round(end))
        clip.append(self._file(file))
        if factor != 1:
            clip.append(_speed(factor))
        return clip

    def _file(self, file: MatteFile) -> Element:
        name, is_known = self._ids.of_file(file.path)
        found = Element("file", id=name)
        if is_known:
            return found
        _text(found, "name", file.first_file.name)
        _text(found, "pathurl", file.url)
        found.append(_rate(file.rate))
        _text(found, "duration", file.frames)
        found.append(_timecode(file))
        facts = SubElement(SubElement(SubElement(found, "media"), "video"), "samplecharacteristics")
        facts.append(_rate(file.rate))
        _text(facts, "width", file.size[0])
        _text(facts, "height", file.size[1])
        return found


def _frames_at(file: MatteFile, rate: Fraction) -> Fraction:
    same = round(file.rate) == round(rate)
    return Fraction(file.frames) if same else file.frames / file.rate * rate


def _timecode(file: MatteFile) -> Element:
    timecode = Element("timecode")
    timecode.append(_rate(file.rate))
    zero = advance_timecode("00:00:00:00", 0, file.rate) or "00:00:00:00"
    text = file.timecode or zero
    _text(timecode, "string", text)
    _text(timecode, "frame", file.start)
    _text(timecode, "displayformat", "DF" if ";" in text else "NDF")
    return timecode


def _rate(rate: Fraction) -> Element:
    nominal = nominal_rate(rate) or rate
    found = Element("rate")
    _text(found, "timebase", round(nominal))
    _text(found, "ntsc", "TRUE" if nominal.denominator == 1001 else "FALSE")
    return found


def _speed(factor: Fraction) -> Element:
    found = Element("filter")
    effect = SubElement(found, "effect")
    for tag, value in (
        ("name", "Time Remap"),
        ("effectid", "timeremap"),
        ("effectcategory", "motion"),
        ("effecttype", "motion"),
        ("mediatype", "video"),
    ):
        _text(effect, tag, value)
    values = {
        "variablespeed": "0",
        "speed": f"{float(100 * factor):g}",
        "reverse": "FALSE",
        "frameblending": "FALSE",
    }
    for name, value in values.items():
        parameter = SubElement(effect, "parameter")
        _text(parameter, "parameterid", name)
        _text(parameter, "name", name)
        _text(parameter, "value", value)
    return found


def _text(parent: Element, tag: str, value: Any) -> None:
    SubElement(parent, tag).text = str(value)
