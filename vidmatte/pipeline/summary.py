"""The summary of a run, built in one place for runs at once and in segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vidmatte.errors import ReadError
from vidmatte.imaging.display import describe_source
from vidmatte.pipeline.request import Shot
from vidmatte.report import PAGE
from vidmatte.report.summary import Summary


def build_summary(
    shot: Shot,
    *,
    model: str,
    device: str,
    precision: str,
    confidence: Sequence[float],
    notes: Iterable[str],
    seconds: float,
    truncated_at: tuple[int, str] | None = None,
) -> Summary:
    """Return the summary of a shot before its outputs are in place.

    Args:
        shot: the shot that was matted.
        model: name of the model.
        device: device on which the model computed.
        precision: data type in which it computed, such as "float32".
        confidence: confidence of each frame, 0..1.
        notes: notes of the model.
        seconds: duration of the run so far.
        truncated_at: the first frame that could not be read, and why; None for a whole source.

    Raises:
        ReadError: the source had no frame.
    """
    info = shot.video.info
    if not confidence:
        raise ReadError(f"{info.source}: has no frame from {shot.start} on that can be read")
    report = shot.request.outputs.report
    return Summary(
        input=str(info.source),
        frames=len(confidence),
        seconds=seconds,
        model=model,
        device=device,
        precision=precision.removeprefix("torch."),
        # Known only when they are in place.
        outputs=(),
        confidence=tuple(confidence),
        options=shot.options,
        first_number=shot.video.first_number,
        first_frame=shot.video.number_of(shot.start),
        reference_frames=shot.reference_frames,
        notes=(*_notes(shot, len(confidence), truncated_at), *notes),
        is_set=shot.request.source.images,
        report=None if report is None else report / PAGE,
        sidecars=shot.request.outputs.sidecar_paths,
        objects=tuple(filter(None, shot.references)),
        truncated_at=None if truncated_at is None else shot.video.number_of(truncated_at[0]),
    )


def _notes(shot: Shot, frames: int, truncated_at: tuple[int, str] | None) -> list[str]:
    """Return what a user should know of the source, the prompts, and the range that was read."""
    info = shot.video.info
    notes = [*describe_source(info), *shot.request.prompts.notes(str(info.source))]
    if truncated_at is not None:
        frame, why = truncated_at
        notes.append(
            f"the source ends early: frame {shot.video.number_of(frame)} cannot be read ({why}); "
            f"picture and sound of the outputs end after {frames} frames"
        )
    elif shot.end is not None and shot.start + frames < shot.end:
        notes.append(
            f"the out point {shot.options.end} lies behind the last frame, "
            f"{shot.video.number_of(shot.start + frames - 1)}; the outputs end with it"
        )
    return notes
