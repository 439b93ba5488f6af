"""The dry run: open and check every shot, and estimate its size, before anything is rendered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.results import Results
from vidmatte.batch.upload import refuse_existing, uri_of
from vidmatte.batch.worker import fingerprint_sent, is_up_to_date
from vidmatte.errors import ModelError, OptionError, VidmatteError
from vidmatte.model.catalogue import all_models
from vidmatte.model.memory import gigabytes
from vidmatte.options import NO_MODEL
from vidmatte.pipeline.request import Request, Shot, open_shot
from vidmatte.pipeline.segments.long_render import can_resume, journal_of
from vidmatte.write import OutputSpec

_BYTES_A_PIXEL: Mapping[str, float] = {
    "prores_ks": 1.2,
    "libvpx-vp9": 0.2,
    "ffv1": 0.8,
    "libx264": 0.3,
    "png": 4.0,
}
"""Bytes per pixel of detailed pictures, rounded up, to estimate the space needed."""
_OTHER_BYTES_A_PIXEL = 4.0


@dataclass(frozen=True)
class ShotPlan:
    """The facts of a shot before it is rendered."""

    name: str
    state: str
    """"ready", "goes on", "up to date" or "refused"."""
    reason: str = ""
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    """Width and height."""
    segments: int = 0
    finished: int = 0
    """Segments finished by an earlier run."""
    specs: tuple[str, ...] = ()
    needed: int = 0
    """Bytes, estimated."""
    folder: Path = Path()
    """Folder of most of them."""

    def as_json(self) -> dict[str, Any]:
        """Return the object for `--dry-run --json`."""
        return {
            "shot": self.name,
            "state": self.state,
            "reason": self.reason,
            "frames": self.frames,
            "width": self.size[0],
            "height": self.size[1],
            "segments": self.segments,
            "finished_segments": self.finished,
            "outputs": list(self.specs),
            "bytes": self.needed,
        }


def check_shots(shots: Iterable[ShotRequest], results: Results) -> Iterator[ShotPlan]:
    """Yield the plan of each shot; the plan of an impossible one has the reason."""
    for shot in shots:
        if shot.problem:
            yield ShotPlan(shot.name, "refused", shot.problem)
            continue
        try:
            yield _check(shot, results)
        except VidmatteError as error:
            yield ShotPlan(shot.name, "refused", str(error))
        except OSError as error:
            yield ShotPlan(shot.name, "refused", f"{error.filename or 'a file'}: {error.strerror}")


def space_needed(plans: Sequence[ShotPlan]) -> list[str]:
    """Return a sentence for each file system with too little space for its outputs."""
    needed: dict[int, tuple[int, Path]] = {}
    for plan in plans:
        if plan.needed:
            place = _existing(plan.folder)
            # Outputs on one disk share its space.
            device = os.stat(place).st_dev
            needed[device] = (needed.get(device, (0, place))[0] + plan.needed, place)
    return [
        f"{place.absolute()}: about {gigabytes(size)} are needed, and {gigabytes(free)} are free"
        for size, place in needed.values()
        if (free := shutil.disk_usage(place).free) < size
    ]


def _check(shot: ShotRequest, results: Results) -> ShotPlan:
    request = shot.request
    _check_model(request)
    # The known fingerprints save reading large inputs again.
    identity = fingerprint_sent(request, shot.uris, results.file_fingerprints(shot.name))
    if is_up_to_date(results.completed(shot.name), identity, request):
        return ShotPlan(shot.name, "up to date")
    with open_shot(request) as opened:
        journal = journal_of(request)
        resuming = journal.exists and can_resume(journal, request, identity)
        if not resuming:
            refuse_existing(request, shot.uris)
            _check_outputs(opened)
        frames = opened.video.count_frames() if opened.end is None else opened.end
        frames = max(0, min(frames, opened.video.count_frames()) - opened.start)
        info = opened.video.info
        needed = sum(_bytes(spec, info.width * info.height) for spec in opened.specs) * frames
        segments = max(1, -(-frames // request.options.segment_frames))
        return ShotPlan(
            shot.name,
            "goes on" if resuming else "ready",
            frames=frames,
            size=(info.width, info.height),
            segments=segments,
            finished=sum(name.startswith("render:") for name in journal.done()) if resuming else 0,
            specs=tuple(uri_of(spec, shot.uris) or str(spec) for spec in opened.specs),
            # Until they are joined, the parts of a movie and the movie are both there.
            needed=int(needed * (2 if segments > 1 else 1)),
            folder=opened.specs[0].folder,
        )


def _check_model(request: Request) -> None:
    """Raise OptionError for an unknown model, ModelError for one with missing files."""
    options = request.options
    has_files = options.weights is not None or options.sd is not None
    _check_files(str(options.model), has_files=has_files)
    if options.prompt_model is not None:
        _check_files(options.prompt_model, has_files=options.prompt_weights is not None)


def _check_files(name: str, *, has_files: bool) -> None:
    """Check a model by its name; `has_files` if a place of its files was given."""
    if name == NO_MODEL or Path(name).is_file():
        return
    facts = {facts.name: facts for facts in all_models()}
    if name not in facts:
        raise OptionError(
            f"model {name!r} is not valid: it is neither a known name ({', '.join(facts)}) nor a "
            f"file"
        )
    for part in facts[name].parts:
        # Files that were given are checked when they are loaded.
        if part.needed and part.path is None and not has_files:
            raise ModelError(f"model {name!r}: {part.name} is not on this machine; {part.get}")


def _check_outputs(shot: Shot) -> None:
    """Raise the errors of a run before it begins; folders still to be created are fine."""
    missing = [spec for spec in shot.specs if not spec.folder.is_dir()]
    there = [spec for spec in shot.specs if spec not in missing]
    if there:
        shot.create_outputs(overwrite=shot.options.overwrite, specs=there)
    for spec in missing:
        above = _existing(spec.folder)
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise VidmatteError(
                f"{spec}: its folder cannot be created in {above}; check the path and its rights"
            )


def _existing(folder: Path) -> Path:
    return next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )


def _bytes(spec: OutputSpec, pixels: int) -> float:
    return _BYTES_A_PIXEL.get(spec.format.codec, _OTHER_BYTES_A_PIXEL) * pixels
