"""Open a timeline of an editing program as one of OpenTimelineIO."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmatte.edit.edl import prepared_edl, with_record_times
from vidmatte.edit.fcp7xml import prepared
from vidmatte.edit.fcpxml import read_fcpxml
from vidmatte.edit.times import exact_rate
from vidmatte.edit.uses import video_tracks
from vidmatte.errors import MissingExtraError, OptionError, ReadError

TIMELINES = (".otio", ".otioz", ".xml", ".fcpxml", ".fcpxmld", ".edl", ".aaf")
"""Extensions of timelines: OpenTimelineIO, Final Cut Pro 7 and X, CMX 3600, Avid."""
_ADAPTERS = {
    ".otio": "otio_json",
    ".otioz": "otioz",
    ".xml": "fcp_xml",
    ".edl": "cmx_3600",
    ".aaf": "AAF",
}
_MAX_BYTES = 1 << 30
_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
"""First bytes of the structured storage that an AAF file is."""


def is_timeline(path: str | Path) -> bool:
    """Return whether a path has the extension of a timeline."""
    return Path(path).suffix.lower() in TIMELINES


def open_timeline(
    path: str | Path, *, rate: Fraction | None = None, sequence: str | None = None
) -> Any:
    """Read a timeline.

    Args:
        path: The file, with one of the extensions of `TIMELINES`.
        rate: Frames per second of an EDL, which does not say it.
        sequence: Name of one of several sequences of the file.

    Raises:
        ReadError: If it cannot be read, or shows no pictures.
        OptionError: If the rate or the sequence is needed, or does not fit.
        MissingExtraError: If OpenTimelineIO or an adapter is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    _check_rate(path, rate)
    _check_file(path)
    try:
        if suffix in (".fcpxml", ".fcpxmld"):
            import_otio()
            found = read_fcpxml(path)
        else:
            found = _read(path, _ADAPTERS[suffix], rate)
    except (ReadError, MissingExtraError, OptionError):
        raise
    # Adapters raise whatever their parsers stumble over.
    except Exception as error:
        raise ReadError(
            f"{path}: cannot be read as a timeline ({_one_line(error)}); export it again from the "
            f"editing program, if possible as .otio"
        ) from error
    timeline = _chosen(found, path, sequence)
    _disable_items(timeline)
    if not any(len(track) for track in video_tracks(timeline)):
        raise ReadError(f"{path}: has no video track with clips; check what was exported")
    return timeline


def _check_rate(path: Path, rate: Fraction | None) -> None:
    is_edl = path.suffix.lower() == ".edl"
    if is_edl and rate is None:
        raise OptionError(
            f"{path}: an EDL does not say its frame rate; give it, as in --fps 23.976"
        )
    if rate is not None and not is_edl:
        raise OptionError(f"{path}: has its own frame rate; --fps is for EDLs only, leave it out")


def _check_file(path: Path) -> None:
    place = path / "Info.fcpxml" if path.is_dir() else path
    if not place.is_file():
        raise ReadError(f"{path}: no such timeline; check the path")
    if place.stat().st_size > _MAX_BYTES:
        raise ReadError(f"{path}: is larger than a timeline can be; check the path")


def import_otio() -> Any:
    """Return OpenTimelineIO. Raises MissingExtraError."""
    try:
        import opentimelineio
    except ImportError as error:
        raise MissingExtraError("reading timelines", "edit") from error
    return opentimelineio


def _read(path: Path, adapter: str, rate: Fraction | None) -> Any:
    otio = import_otio()
    if adapter not in otio.adapters.available_adapter_names():
        raise MissingExtraError(f"reading {path.suffix} timelines", "edit")
    if adapter == "AAF" and path.read_bytes()[:8] != _COMPOUND_FILE:
        raise ReadError(f"{path}: is not an AAF file; export it again from the editing program")
    if adapter == "fcp_xml":
        return otio.adapters.read_from_string(prepared(path.read_bytes()), adapter)
    if adapter != "cmx_3600":
        # pyaaf2 warns of what it does not know in files of newer programs.
        logging.getLogger("aaf2").setLevel(logging.ERROR)
        return otio.adapters.read_from_file(str(path), adapter)
    assert rate is not None
    text = prepared_edl(_text(path), rate, path)
    found = otio.adapters.read_from_string(text, adapter, rate=float(rate))
    return with_record_times(found, rate)


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older editing systems write the code page of their machine; names then match less.
        return data.decode("latin-1")


def _chosen(found: Any, path: Path, name: str | None) -> Any:
    """Return the timeline of what was read, or the one of several that is named."""
    timelines = list(_timelines(found))
    names = ", ".join(repr(each.name) for each in timelines)
    if not timelines:
        raise ReadError(f"{path}: holds no sequence; export a sequence or a timeline")
    if name is not None:
        chosen = [each for each in timelines if each.name == name]
        if not chosen:
            raise OptionError(f"--sequence {name!r} is not in {path}; it has {names}")
        return chosen[0]
    if len(timelines) > 1:
        raise OptionError(
            f"{path}: holds {len(timelines)} sequences; choose one with --sequence: {names}"
        )
    return timelines[0]


def _timelines(found: Any) -> Iterator[Any]:
    if found is None:
        return
    if found.schema_name() == "Timeline":
        yield found
    elif found.schema_name() == "SerializableCollection":
        for each in found:
            yield from _timelines(each)


def _disable_items(timeline: Any) -> None:
    """Disable what Final Cut Pro XML has disabled, which its adapter keeps as metadata only."""
    for item in (*timeline.tracks, *timeline.find_children()):
        facts = item.metadata.get("fcp_xml", {})
        if hasattr(item, "enabled") and str(facts.get("enabled", "")).upper() == "FALSE":
            item.enabled = False


def rate_in_text(rate: Fraction) -> str:
    """Return a rate as people write it: 25, 23.976."""
    return f"{float(exact_rate(float(rate))):.3f}".rstrip("0").rstrip(".")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
