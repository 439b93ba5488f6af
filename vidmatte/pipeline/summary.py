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
        outputs=(),
        confidence=tuple(confidence),
        first_frame=shot.start,
        reference_frames=shot.reference_frames,
        notes=(*describe_source(info), *shot.request.prompts.notes(str(info.source)), *notes),
        is_set=shot.request.source.images,
        report=None if report is None else report / PAGE,
        objects=tuple(filter(None, shot.references)),
    )
