"""Storylines of mattes in Final Cut Pro X XML, connected to the first clip of the given project.

The given file is kept; mattes are added to its resources, and a storyline for each track of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vidmatte.edit.fcpxml import STORY, formats_of, load, rate_of, seconds
from vidmatte.edit.place import MatteFile, MatteTrack, Placed
from vidmatte.edit.uses import Joint
from vidmatte.errors import WriteError
from vidmatte.media.timecode import nominal_rate

_AFTER_ANCHORED = (
    "marker",
    "chapter-marker",
    "rating",
    "keyword",
    "analysis-marker",
    "hidden-clip-marker",
    "audio-channel-source",
    "audio-role-source",
    "mc-source",
    "sync-source",
    "filter-video",
    "filter-video-mask",
    "filter-audio",
    "metadata",
)
"""Elements that stand behind connected clips in an element, by the DTD."""


def with_mattes(path: Path, name: str, tracks: Sequence[MatteTrack], rate: Fraction) -> str:
    """Return the file with storylines of mattes above all lanes of a project.

    Args:
        path: The given timeline.
        name: Name of the project.
        tracks: The new tracks.
        rate: Frames per second of its sequence.
    """
    root = load(path)
    project = next(each for each in root.iter("project") if each.get("name", "") == name)
    spine = project.find("sequence/spine")
    first = None if spine is None else _first(spine)
    if spine is None or first is None:
        raise WriteError(f"{path}: its project has no clip to connect mattes to")
    writer = _Writer(root, rate)
    # Times of a connected storyline are those of the clip that it hangs on.
    offset = writer.start_of(first)
    top = max((int(each.get("lane", "0")) for each in spine.iter()), default=0)
    index = next(
        (number for number, each in enumerate(first) if each.tag in _AFTER_ANCHORED), len(first)
    )
    for number, track in enumerate(tracks, 1):
        storyline = writer.storyline(track, top + number, offset)
        first.insert(index + number - 1, storyline)
    ElementTree.indent(root, "    ")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _first(spine: Element) -> Element | None:
    found = next((each for each in spine if each.tag in (*STORY, "gap")), None)
    if found is not None and found.tag == "audition":
        return next((each for each in found if each.tag in STORY), None)
    return found


class _Writer:
    """Adds mattes to the resources of a file, and makes storylines of them."""

    def __init__(self, root: Element, rate: Fraction) -> None:
        resources = root.find("resources")
        assert resources is not None
        self._resources = resources
        self._rate = nominal_rate(rate) or rate
        self._taken = {each.get("id", "") for each in root.iter()}
        self._formats = formats_of(root)
        self._assets = {each.get("id", ""): each for each in resources.iterfind("asset")}
        self._known: dict[Path, str] = {}
        self._has_media_rep = _version(root) >= (1, 9)

    def start_of(self, element: Element) -> Fraction:
        """Return the time of an element's own clock at its beginning."""
        if element.get("start") is not None:
            return seconds(element.get("start"))
        asset = self._assets.get(element.get("ref", ""))
        return Fraction(0) if asset is None else seconds(asset.get("start"))

    def storyline(self, track: MatteTrack, lane: int, offset: Fraction) -> Element:
        """Return a storyline that begins with the sequence."""
        spine = Element("spine", lane=str(lane), offset=_text(offset), name=track.name)
        for part in track.parts():
            if isinstance(part, Placed):
                spine.append(self._clip(part))
            elif isinstance(part, Joint):
                spine.append(self._transition(part))
            else:
                gap = SubElement(spine, "gap", name="Gap", start="0s")
                gap.set("offset", self._at(part[0]))
                gap.set("duration", self._at(part[1]))
        return spine

    def _at(self, frames: int) -> str:
        return _text(frames / self._rate)

    def _transition(self, joint: Joint) -> Element:
        before = round(joint.item.in_offset.value)
        length = before + round(joint.item.out_offset.value)
        return Element(
            "transition",
            name="Cross Dissolve",
            offset=self._at(joint.cut - before),
            duration=self._at(length),
        )

    def _clip(self, placed: Placed) -> Element:
        file, use = placed.file, placed.use
        rate = nominal_rate(placed.rate) or placed.rate
        start = _file_seconds(file, Fraction(file.start)) + placed.offset / rate
        clip = Element(
            "asset-clip",
            ref=self._asset(file),
            name=placed.name,
            offset=self._at(placed.start),
            duration=self._at(placed.end - placed.start),
        )
        factor = use.speed.factor
        if factor == 1:
            clip.set("start", _text(start))
        else:
            # The clock of the clip runs from the first frame that is shown.
            clip.set("start", "0s")
            points = SubElement(clip, "timeMap")
            end = Fraction(use.length + 1) / self._rate
            for time, value in ((Fraction(0), start), (end, start + end * factor)):
                SubElement(points, "timept", time=_text(time), value=_text(value), interp="linear")
        return clip

    def _asset(self, file: MatteFile) -> str:
        if file.path in self._known:
            return self._known[file.path]
        name = self._known[file.path] = self._fresh()
        asset = SubElement(
            self._resources,
            "asset",
            id=name,
            name=file.first_file.stem,
            start=_text(_file_seconds(file, Fraction(file.start))),
            duration=_text(_file_seconds(file, Fraction(file.frames))),
            hasVideo="1",
            format=self._format(file),
        )
        if self._has_media_rep:
            SubElement(asset, "media-rep", kind="original-media", src=file.url)
        else:
            asset.set("src", file.url)
        return name

    def _format(self, file: MatteFile) -> str:
        """Return the format of a file's size and rate: one that is there, or a new one."""
        rate = nominal_rate(file.rate) or file.rate
        width, height = map(str, file.size)
        for name, each in self._formats.items():
            known = rate_of(Element("asset", format=name), self._formats)
            if known == rate and (each.get("width"), each.get("height")) == (width, height):
                return name
        name = self._fresh()
        # The DTD has formats ahead of assets, and readers take any order.
        made = Element("format", id=name, frameDuration=_text(1 / rate), width=width, height=height)
        self._resources.insert(0, made)
        self._formats[name] = made
        return name

    def _fresh(self) -> str:
        number = 1
        while f"r{number}" in self._taken:
            number += 1
        self._taken.add(f"r{number}")
        return f"r{number}"


def _version(root: Element) -> tuple[int, ...]:
    return tuple(int(part) for part in root.get("version", "1.8").split("."))


def _file_seconds(file: MatteFile, frames: Fraction) -> Fraction:
    return frames / (nominal_rate(file.rate) or file.rate)


def _text(time: Fraction) -> str:
    """Return seconds as the format writes them: "5s", "1001/24000s"."""
    if time.denominator == 1:
        return f"{time.numerator}s"
    return f"{time.numerator}/{time.denominator}s"
