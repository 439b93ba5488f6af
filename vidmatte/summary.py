"""What a run did, for people and for scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidmatte.write import WrittenFile

_SUGGESTIONS = 3
_SUGGESTED_BELOW = 0.8
"""Only frames that the model is less sure of than this are suggested as further references."""
_SUGGESTED_APART = 10


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    input: str
    frames: int
    seconds: float
    model: str
    device: str
    precision: str
    outputs: tuple[WrittenFile, ...]
    confidence: tuple[float, ...]
    """Of each frame, 0..1."""
    first_frame: int
    """Index in the source of the first frame that was matted."""
    reference_frames: tuple[int, ...]
    """Indices in the source of the frames that were marked."""
    notes: tuple[str, ...]
    """What a user should know of how the source was read and the outputs were written."""
    objects: tuple[str, ...] = ()
    """Names of the objects of a prompt file; empty for marks without a name."""

    @property
    def fps(self) -> float:
        """Frames per second of the whole run, loading of the model included."""
        return self.frames / self.seconds

    @property
    def suggested_reference_frames(self) -> tuple[int, ...]:
        """Frames where one more reference would help most: the least sure ones, some frames from any other."""
        chosen: list[int] = []
        for index in sorted(range(len(self.confidence)), key=lambda i: self.confidence[i]):
            if self.confidence[index] >= _SUGGESTED_BELOW or len(chosen) == _SUGGESTIONS:
                break
            frame = self.first_frame + index
            if all(abs(frame - other) >= _SUGGESTED_APART for other in (*chosen, *self.reference_frames)):
                chosen.append(frame)
        return tuple(sorted(chosen))

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "input": self.input,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "model": self.model,
            "device": self.device,
            "precision": self.precision,
            "outputs": [
                {
                    "path": str(output.path),
                    "kind": output.kind,
                    "codec": output.codec,
                    "pixel_format": output.pixel_format,
                    "frames": output.frames,
                    **({"object": output.object_name} if output.object_name else {}),
                }
                for output in self.outputs
            ],
            "confidence": {
                "mean": round(sum(self.confidence) / len(self.confidence), 4),
                "min": round(min(self.confidence), 4),
                "suggested_reference_frames": list(self.suggested_reference_frames),
            },
            "objects": list(self.objects),
            "notes": list(self.notes),
        }
