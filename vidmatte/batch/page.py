"""The page of a batch: failures first, then contact sheets, the least sure shot first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vidmatte.batch.run import ShotRun
from vidmatte.errors import WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.report.html import render

PAGE = "index.html"
SHEETS = "sheets"
"""Folder of the contact sheets, beside the page."""
# Above every confidence, for shots without one.
_SURE = 2.0
"""Above every confidence: shots without one come last."""


def write_page(folder: Path, runs: Sequence[ShotRun], title: str) -> Path:
    """Write the page into a folder with the contact sheets in `SHEETS`, and return its path.

    Raises:
        WriteError: If it cannot be written.
    """
    failed = [run for run in runs if run.state == "failed"]
    # Shots that need a look come first.
    others = sorted((run for run in runs if run.state != "failed"), key=_least_confidence)
    counts = Counter(run.state for run in runs)
    text = render(
        "batch.html",
        title=title,
        count=len(runs),
        states=", ".join(f"{count} {state}" for state, count in counts.items()),
        failed=[{"name": run.name, "reason": run.reason} for run in failed],
        shots=[_describe(run, folder) for run in others],
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / PAGE, text)
    except OSError as error:
        raise WriteError(
            f"{folder}: the page cannot be written ({error.strerror}); choose another folder"
        ) from error
    return folder / PAGE


def _least_confidence(run: ShotRun) -> float:
    return float(run.record.get("confidence", {}).get("min", _SURE))


def _describe(run: ShotRun, folder: Path) -> dict[str, Any]:
    sheet = folder / SHEETS / f"{run.name}.jpg"
    return {
        "name": run.name,
        "facts": _facts(run),
        "sheet": f"{SHEETS}/{quote(sheet.name)}" if sheet.is_file() else "",
    }


def _facts(run: ShotRun) -> Mapping[str, str]:
    record = run.record
    if "frames" not in record:
        return {"State": run.state}
    confidence = record["confidence"]
    lowest = ", ".join(f"{frame} ({value:.2f})" for frame, value in record.get("lowest", ()))
    return {
        "State": run.state,
        "Frames": f"{record['frames']} in {record.get('seconds', 0)} s, {record.get('model', '')}",
        "Confidence": (
            f"{confidence['mean']:.2f} on average, {confidence['min']:.2f} at the least"
        ),
        "Least sure frames": lowest,
        "Outputs": ", ".join(output["path"] for output in record.get("outputs", ())),
    }
