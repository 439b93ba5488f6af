"""The page of a report: one self-contained HTML file, without requests to any host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vidmatte.report.curve import confidence_curve
from vidmatte.report.html import render
from vidmatte.report.invocation import Invocation
from vidmatte.report.summary import SUGGESTED_BELOW, Summary


@dataclass(frozen=True)
class _Suggestion:
    """A further frame worth marking."""

    frame: int
    confidence: float
    strip: bytes | None
    """A JPEG file of source, alpha and composite."""
    prompt_entry: str | None
    command: str


def page(
    summary: Summary,
    invocation: Invocation,
    *,
    strips: Mapping[int, bytes],
    sheet: bytes,
    guidance: bytes | None,
) -> str:
    """Return the HTML of a report.

    Args:
        summary: The facts of the run.
        invocation: Its command line.
        strips: By frame, source, alpha and composite of suggested frames, as JPEG files.
        sheet: The contact sheet, a JPEG file.
        guidance: The model's guidance, a JPEG file; None without any.
    """
    from markupsafe import Markup

    return render(
        "report.html",
        title=f"vidmatte: {summary.input}",
        facts=_facts(summary),
        curve=Markup(confidence_curve(summary)),
        limit=SUGGESTED_BELOW,
        suggestions=[
            _Suggestion(
                # Frames have numbers, confidences have places from 0.
                frame,
                summary.confidence[frame - summary.first_frame],
                strips.get(frame),
                invocation.in_prompt_file(frame),
                invocation.with_reference(frame),
            )
            for frame in summary.suggested_reference_frames
        ],
        sheet=sheet,
        guidance=guidance,
    )


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """Return the rows of the table at the top: name and text."""
    references = ", ".join(map(str, summary.reference_frames)) or "marked on another image"
    mean = sum(summary.confidence) / summary.frames
    least = min(summary.confidence)
    return [
        (
            "Images" if summary.is_set else "Frames",
            f"{summary.frames}, the first is {summary.first_frame}",
        ),
        ("Model", f"{summary.model} on {summary.device} in {summary.precision}"),
        ("References", references),
        ("Confidence", f"{mean:.2f} on average, {least:.2f} at the least"),
        *(("Note", note) for note in summary.notes),
    ]
