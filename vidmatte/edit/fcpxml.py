"""Read Final Cut Pro X XML (.fcpxml), which Final Cut Pro and DaVinci Resolve write.

OpenTimelineIO's adapter for it takes 23.976 for 23 frames per second, and knows neither the media
of version 1.10 and later nor changes of speed; so it is read here, with exact times.
(Specification: Apple, "FCPXML Reference", versions 1.5 to 1.13.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from vidmatte.edit.times import exact_rate, time_range
from vidmatte.errors import ReadError

STORY = ("asset-clip", "clip", "video", "ref-clip", "sync-clip", "mc-clip", "title", "audition")
"""Elements that take place in a storyline, besides gaps and transitions."""
_PLAYED_TOGETHER = ("sync-clip", "clip")
_NOTES = "fcpx"


def load(path: Path) -> Element:
    """Return the root element of a file, or of the one in a bundle (.fcpxmld)."""
    place = path / "Info.fcpxml" if path.is_dir() else path
    return ElementTree.fromstring(place.read_bytes())


def seconds(text: str | None) -> Fraction:
    """Return a time such as "1001/24000s" or "5s"; 0 for none."""
    return Fraction((text or "0").strip().removesuffix("s"))


def rate_of(element: Element | None, formats: dict[str, Element]) -> Fraction | None:
    """Return the frames per second of the format of an element."""
    found = None if element is None else formats.get(element.get("format", ""))
    duration = None if found is None else found.get("frameDuration")
    return None if duration is None else 1 / seconds(duration)


def formats_of(root: Element) -> dict[str, Element]:
    """Return the formats of a file by identifier."""
    return {each.get("id", ""): each for each in root.iterfind("./resources/format")}


def read_fcpxml(path: Path) -> Any:
    """Return the projects of a file as a collection of timelines of OpenTimelineIO.

    Raises ReadError if it has no project.
    """
    import opentimelineio as otio

    root = load(path)
    projects = list(root.iter("project"))
    if not projects:
        raise ReadError(f"{path}: holds no project; export a project, not clips")
    reader = _Reader(root, path)
    return otio.schema.SerializableCollection("", [reader.timeline(each) for each in projects])


@dataclass(frozen=True)
class _Item:
    """An item with its place in a sequence."""

    lane: int
    start: Fraction
    """Seconds from the beginning of the sequence."""
    end: Fraction
    item: Any
    is_transition: bool = False


class _Reader:
    """Turns elements into items of OpenTimelineIO."""

    def __init__(self, root: Element, path: Path) -> None:
        self._path = path
        self._formats = formats_of(root)
        self._assets = {each.get("id", ""): each for each in root.iterfind("./resources/asset")}
        self._media = {each.get("id", ""): each for each in root.iterfind("./resources/media")}

    def timeline(self, project: Element) -> Any:
        """Return the timeline of a project. Raises ReadError without a frame rate."""
        import opentimelineio as otio

        sequence = project.find("sequence")
        rate = rate_of(sequence, self._formats)
        if sequence is None or rate is None:
            raise ReadError(f"{self._path}: the format of its sequence has no frame rate")
        start = seconds(sequence.get("tcStart"))
        made = otio.schema.Timeline(project.get("name", ""))
        made.global_start_time = time_range(start * rate, 0, rate).start_time
        made.tracks.extend(self._tracks(sequence, rate))
        return made

    def _tracks(self, sequence: Element, rate: Fraction) -> list[Any]:
        """Return the tracks of a sequence: one for each lane, the lowest first."""
        spine = sequence.find("spine")
        if spine is None:
            return []
        # A storyline has no holes, so it begins where the sequence does, whatever its clock says:
        # programs count from 0 or from the timecode.
        first = next((each for each in spine if each.tag in (*STORY, "gap")), spine)
        found = list(self._storyline(spine, -seconds(first.get("offset")), 0, rate))
        tracks = []
        for lane in sorted({each.lane for each in found}):
            items = sorted((e for e in found if e.lane == lane), key=lambda e: e.start)
            tracks.append(self._track(lane, items, rate))
        return tracks

    def _track(self, lane: int, items: list[_Item], rate: Fraction) -> Any:
        import opentimelineio as otio

        track = otio.schema.Track(name=f"lane {lane}", kind=otio.schema.TrackKind.Video)
        transitions = {_cut_of(each, items): each for each in items if each.is_transition}
        at = Fraction(0)
        for each in items:
            if each.is_transition:
                continue
            # Between two clips, or between a clip and nothing.
            for cut in sorted({at, each.start} & transitions.keys()):
                if cut == each.start > at:
                    track.append(_gap(each.start - at, rate))
                    at = each.start
                track.append(_transition(transitions.pop(cut), cut, rate))
            if each.start > at:
                track.append(_gap(each.start - at, rate))
            track.append(each.item)
            at = each.end
        if at in transitions:
            track.append(_transition(transitions[at], at, rate))
        return track

    def _storyline(
        self, spine: Element, zero: Fraction, lane: int, rate: Fraction
    ) -> Iterator[_Item]:
        """Yield what a storyline shows, with all that is connected to it.

        `zero` is the time in the sequence at which an offset of 0 lies.
        """
        at = zero
        for element in spine:
            tag = element.tag
            if tag not in (*STORY, "gap", "transition"):
                continue
            begin = at if element.get("offset") is None else zero + seconds(element.get("offset"))
            length = seconds(element.get("duration"))
            if tag == "transition":
                yield _Item(lane, begin, begin + length, element, is_transition=True)
                continue
            if tag != "gap":
                yield from self._shown(element, begin, length, lane, rate)
            yield from self._connected(element, begin, lane, rate)
            at = begin + length

    def _shown(
        self, element: Element, begin: Fraction, length: Fraction, lane: int, rate: Fraction
    ) -> Iterator[_Item]:
        if element.tag == "audition":
            # The first one is picked; the others wait for their turn.
            element = next((each for each in element if each.tag in STORY), element)
        item = self._item(element, length, rate)
        if item is not None:
            item.enabled = element.get("enabled", "1") != "0"
            yield _Item(lane, begin, begin + length, item)

    def _connected(
        self, element: Element, begin: Fraction, lane: int, rate: Fraction
    ) -> Iterator[_Item]:
        """Yield the clips and storylines that hang on an element of a storyline."""
        # Their offsets are times of the element itself.
        zero = begin - self._local_start(element)
        for child in element:
            number = child.get("lane")
            if number is None:
                continue
            inner = lane + int(number)
            if child.tag == "spine":
                offset = zero + seconds(child.get("offset"))
                yield from self._storyline(child, offset, inner, rate)
            elif child.tag in STORY:
                start = zero + seconds(child.get("offset"))
                length = seconds(child.get("duration"))
                yield from self._shown(child, start, length, inner, rate)

    def _local_start(self, element: Element) -> Fraction:
        """Return the time of an element's own clock at its beginning."""
        given = element.get("start")
        if given is not None:
            return seconds(given)
        asset = self._assets.get(element.get("ref", ""))
        if element.tag in ("asset-clip", "video") and asset is not None:
            return seconds(asset.get("start"))
        return Fraction(0)

    def _item(self, element: Element, length: Fraction, rate: Fraction) -> Any | None:
        """Return the item of an element; None for sound and what has no pictures."""
        if element.tag == "ref-clip":
            return self._compound(element, length, rate)
        source = _media_element(element)
        asset = None if source is None else self._assets.get(source.get("ref", ""))
        if element.tag == "mc-clip":
            return self._clip(element, None, Fraction(0), length, rate, "a multicam clip")
        if asset is None or source is None or _is_sound(element, asset):
            return None
        start = self._local_start(element)
        if source is not element:
            # A time of the clip, where the media inside of it lies at an offset.
            start += self._local_start(source) - seconds(source.get("offset"))
        return self._clip(element, asset, start, length, rate)

    def _clip(
        self,
        element: Element,
        asset: Element | None,
        start: Fraction,
        length: Fraction,
        rate: Fraction,
        problem: str = "",
    ) -> Any:
        import opentimelineio as otio

        own = rate_of(asset, self._formats) or rate
        own = exact_rate(float(own))
        effects, start = _retimed(element, start)
        if problem:
            effects = [otio.schema.TimeEffect(effect_name=problem)]
        clip = otio.schema.Clip(
            name=element.get("name", ""),
            media_reference=self._reference(asset, own),
            # At the rate of the sequence, as all programs count: a clip at another rate is shown
            # for the same time.
            source_range=time_range(start * own, length * own, own),
            metadata={_NOTES: {"note": element.findtext("note") or ""}},
        )
        clip.effects.extend(effects)
        clip.markers.extend(_markers(element, own))
        return clip

    def _reference(self, asset: Element | None, rate: Fraction) -> Any:
        import opentimelineio as otio

        url = None if asset is None else _address(asset)
        if asset is None or not url:
            return otio.schema.MissingReference()
        available = time_range(
            seconds(asset.get("start")) * rate, seconds(asset.get("duration")) * rate, rate
        )
        reference = otio.schema.ExternalReference(url, available)
        reference.name = asset.get("name", "")
        return reference

    def _compound(self, element: Element, length: Fraction, rate: Fraction) -> Any | None:
        """Return a compound clip as a nested stack."""
        import opentimelineio as otio

        media = self._media.get(element.get("ref", ""))
        sequence = None if media is None else media.find("sequence")
        if sequence is None or element.get("srcEnable") == "audio":
            return None
        inner = rate_of(sequence, self._formats) or rate
        zero = seconds(sequence.get("tcStart"))
        start = zero if element.get("start") is None else seconds(element.get("start"))
        effects, start = _retimed(element, start)
        stack = otio.schema.Stack(
            name=element.get("name", ""),
            source_range=time_range((start - zero) * inner, length * inner, inner),
        )
        stack.extend(self._tracks(sequence, inner))
        stack.effects.extend(effects)
        return stack


def _cut_of(transition: _Item, items: list[_Item]) -> Fraction:
    """Return where a transition goes from one item to the next: the end of one that is nearest."""
    middle = (transition.start + transition.end) / 2
    ends = {end for each in items if not each.is_transition for end in (each.start, each.end)}
    return min(ends, key=lambda end: abs(end - middle), default=middle)


def _gap(length: Fraction, rate: Fraction) -> Any:
    import opentimelineio as otio

    return otio.schema.Gap(source_range=time_range(0, length * rate, rate))


def _transition(each: _Item, cut: Fraction, rate: Fraction) -> Any:
    import opentimelineio as otio

    return otio.schema.Transition(
        name=each.item.get("name", ""),
        transition_type=otio.schema.TransitionTypes.SMPTE_Dissolve,
        in_offset=time_range((cut - each.start) * rate, 0, rate).start_time,
        out_offset=time_range((each.end - cut) * rate, 0, rate).start_time,
    )


def _media_element(element: Element) -> Element | None:
    """Return the element that names the media: itself, or the first one in it with pictures."""
    if element.tag in ("asset-clip", "video"):
        return element
    if element.tag not in _PLAYED_TOGETHER:
        return None
    inside = [each for each in element if each.tag in (*STORY, "spine") and not each.get("lane")]
    first = inside[0] if inside else None
    if first is not None and first.tag == "spine":
        first = next((each for each in first if each.tag in STORY), None)
    return first if first is not None and first.tag in ("asset-clip", "video") else None


def _is_sound(element: Element, asset: Element) -> bool:
    return asset.get("hasVideo", "0") != "1" or element.get("srcEnable") == "audio"


def _address(asset: Element) -> str | None:
    """Return the address of an asset's media; since version 1.9 it is in an element of its own."""
    kinds = {each.get("kind"): each.get("src") for each in asset.iterfind("media-rep")}
    return kinds.get("original-media") or asset.get("src") or next(iter(kinds.values()), None)


def _retimed(element: Element, start: Fraction) -> tuple[list[Any], Fraction]:
    """Return the effects for the speed of an element, and the time of its media at its start."""
    import opentimelineio as otio

    conform = element.find("conform-rate")
    if conform is not None and conform.get("scaleEnabled", "1") != "0":
        return [otio.schema.TimeEffect(effect_name="conform-rate")], start
    time_map = element.find("timeMap")
    if time_map is None:
        return [], start
    points = [(seconds(p.get("time")), seconds(p.get("value"))) for p in time_map.iter("timept")]
    if len(points) < 2:
        return [otio.schema.TimeEffect(effect_name="timeMap")], start
    (time, value), (time_2, value_2) = points[0], points[-1]
    if time_2 == time:
        return [otio.schema.TimeEffect(effect_name="timeMap")], start
    factor = (value_2 - value) / (time_2 - time)
    # Constant if all points lie on one line.
    if any(value + (each - time) * factor != found for each, found in points):
        return [otio.schema.TimeEffect(effect_name="timeMap")], start
    if factor == 0:
        return [otio.schema.FreezeFrame()], start
    warp = otio.schema.LinearTimeWarp(time_scalar=float(factor))
    return [warp] if factor != 1 else [], value + (start - time) * factor


def _markers(element: Element, rate: Fraction) -> Iterator[Any]:
    import opentimelineio as otio

    for marker in element:
        if marker.tag not in ("marker", "chapter-marker", "keyword"):
            continue
        start = seconds(marker.get("start"))
        made = otio.schema.Marker(
            name=marker.get("value", ""),
            marked_range=time_range(start * rate, seconds(marker.get("duration")) * rate, rate),
        )
        made.metadata["note"] = marker.get("note", "")
        yield made
