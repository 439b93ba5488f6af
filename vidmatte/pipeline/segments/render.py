"""What is done in a unit: rehearse, follow a chunk, render a segment; each from files to files."""

from __future__ import annotations

import copy
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.errors import ReadError, WriteError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.build import notes_of
from vidmatte.model.compact.predictor import CompactMatter
from vidmatte.model.display import show_to
from vidmatte.model.interface import CoarseMatte, Matter, Model
from vidmatte.pipeline.models import StepCallback, batch_size_of, matter_of, part_of, rehearsed
from vidmatte.pipeline.request import Shot
from vidmatte.pipeline.segments.chunks import load_mattes, load_state, load_tensors, save_chunk, save_tensors
from vidmatte.pipeline.segments.journal import Record, sync_folder
from vidmatte.pipeline.segments.plan import Plan, Unit
from vidmatte.prompts.objects import Mattes, together
from vidmatte.report import Thumbnail, Thumbnails, spread_frames
from vidmatte.report.summary import suggested_apart
from vidmatte.stages.chain import MattesCallback, completed
from vidmatte.stages.propagate import Leg, bring_to_full_size, follow_part, share_legs
from vidmatte.write import Outputs, Target, create_outputs

FrameCallback = Callable[[int], None]
THUMBNAILS = "thumbnails.npz"


def weights_file(folder: Path, name: int) -> Path:
    """Where the network that practised on an object is kept."""
    return folder / f"network.{name}.safetensors"


def chunk_file(folder: Path, unit: Unit) -> Path:
    """Where the mattes of a chunk are kept."""
    return folder / "followed" / f"{unit.object}.{unit.leg}.{unit.index}.safetensors"


def part_folder(folder: Path, segment: int) -> Path:
    """Where a rendered segment is kept: a folder for each target in it, and small pictures."""
    return folder / "parts" / f"{segment:06d}"


def part_path(folder: Path, segment: int, number: int, target: Target) -> Path:
    """The movie, or the folder of images, of one target in a segment."""
    place = part_folder(folder, segment) / str(number)
    return place / Path(target.path).name if target.format.is_movie else place


class Renderer:
    """Does units of one shot. All it keeps between them is what the shot itself determines."""

    def __init__(
        self, shot: Shot, plan: Plan, folder: Path, model: Model, *, on_mattes: MattesCallback | None = None
    ) -> None:
        """`on_mattes` is given the mattes of each object that are handed to the outputs."""
        self._shot, self._plan, self._folder, self._model = shot, plan, folder, model
        self._on_mattes = on_mattes
        self._references = list(shot.references.values())
        self._encoded: dict[int, Matter] = {}

    def run(self, unit: Unit, *, on_frame: FrameCallback, on_step: StepCallback | None = None) -> Record:
        """Do a unit; returns what the journal is to say of it. `on_frame` is told how many frames came to be done."""
        if unit.kind == "rehearse":
            return self._rehearse(unit, on_step)
        return self._follow(unit, on_frame) if unit.kind == "follow" else self._render(unit.index, on_frame)

    def _rehearse(self, unit: Unit, on_step: StepCallback | None) -> Record:
        shot = self._shot
        matter = matter_of(shot, self._model, self._references[unit.index])
        on_step = part_of(on_step, unit.index, len(self._references))
        matter = rehearsed(matter, shot.options.rehearsal, self._plan.frames, shot.request.images, on_step)
        assert isinstance(matter, CompactMatter)  # the plan has no others rehearsed
        save_tensors(weights_file(self._folder, unit.index), dict(matter.model.net.state_dict()))
        return {"unit": unit.name}

    def matter(self, name: int) -> Matter:
        """The references of an object, encoded by the network that practised on them, where one did."""
        if name not in self._encoded:
            matter = matter_of(self._shot, self._model, self._references[name])
            if name in self._plan.rehearsed:
                assert isinstance(matter, CompactMatter)
                net = copy.deepcopy(matter.model.net)
                net.load_state_dict(load_tensors(weights_file(self._folder, name))[0])
                matter = matter.with_network(net.eval())
            self._encoded[name] = matter
        return show_to(self._encoded[name], self._shot.video.info.color)

    def _follow(self, unit: Unit, on_frame: FrameCallback) -> Record:
        plan, leg = self._plan, self._plan.legs[unit.object][unit.leg]
        matter = self.matter(unit.object)
        follower = matter.follower()
        assert follower is not None  # the plan has legs for models that follow
        before, reference = plan.before(unit), None
        if before is not None:
            follower.restore(load_state(chunk_file(self._folder, before)))
        else:
            marks = (mark for mark in self._references[unit.object] if mark.frame == leg.reference)
            reference = next(marks, None)
        first, end = plan.chunk_span(leg, unit.index)
        mattes: dict[int, CoarseMatte] = {}
        found = follow_part(matter, follower, self._shot.video, leg, first=first, end=end, reference=reference)
        with closing(found):
            for frame, matte in found:
                if plan.first <= frame < plan.end:
                    mattes[frame] = matte
                on_frame(1)
        save_chunk(chunk_file(self._folder, unit), mattes, follower.state())
        return {"unit": unit.name}

    def _render(self, segment: int, on_frame: FrameCallback) -> Record:
        began = time.monotonic()
        shot, final = self._shot, part_folder(self._folder, segment)
        partial = final.with_name(f".{final.name}.{secrets.token_hex(4)}.partial")
        try:
            record = self._write_parts(segment, partial, on_frame)
            # A worker that was lost before it could say so may have left the same.
            if not final.exists():
                os.replace(partial, final)
                sync_folder(final.parent)
        except OSError as error:
            if isinstance(error, WriteError):
                raise
            raise WriteError(
                f"{shot.targets[0]}: a segment cannot be kept in {self._folder} ({error.strerror}); free some space, "
                f"and go on with --resume"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return {**record, "notes": notes_of(self._model), "seconds": round(time.monotonic() - began, 3)}

    def _write_parts(self, segment: int, folder: Path, on_frame: FrameCallback) -> dict[str, Any]:
        shot, plan = self._shot, self._plan
        first, end = plan.span(segment)
        thumbnails = Thumbnails(
            pixel_aspect=shot.video.info.sample_aspect_ratio,
            references=shot.marked,
            apart=suggested_apart(is_set=shot.request.images),
            chosen=spread_frames(plan.first, plan.end),
        )
        facts: dict[str, list[Any]] = {"pts": [], "durations": [], "confidence": [], "names": []}
        with_color = any(not target.alpha_only for target in shot.targets)
        device = self._model.device
        mattes = self._mattes(*plan.seen(segment))
        stages = completed(mattes, shot.options, shot.finisher, len(self._references), with_color, device, (first, end))
        with closing(stages):
            begun = next(stages, None)
            if begun is not None:
                with self._outputs(folder) as out:
                    for batches in chain([begun], stages):
                        of_objects = dict(zip(shot.references, batches, strict=True))
                        out.write(of_objects)
                        if self._on_mattes is not None:
                            self._on_mattes(of_objects)
                        batch = together(batches)
                        thumbnails.add(batch)
                        facts["pts"] += batch.source.pts
                        facts["durations"] += batch.source.durations
                        facts["names"] += batch.source.names
                        facts["confidence"] += batch.confidence
                        on_frame(len(batch))
        if len(facts["pts"]) < end - first and not shot.options.allow_truncated:
            raise ReadError(
                f"{shot.video.info.source}: frame {first + len(facts['pts'])} cannot be read; repair the clip, or cut "
                f"it there with --end"
            )
        _save_thumbnails(folder / THUMBNAILS, thumbnails.kept)
        return {"unit": Unit("render", segment).name, "first": first, "frames": len(facts["pts"]), **facts}

    def _outputs(self, folder: Path) -> Outputs:
        """The targets of the shot without sound, in a folder for each inside of `folder`."""
        return create_outputs(
            _inside(self._shot.targets, folder),
            like=self._shot.video.info,
            premultiplied=self._shot.options.premultiplied,
            bit_depth=self._shot.options.bit_depth,
            start=Fraction(0),
            audio=False,
        )

    def _mattes(self, first: int, end: int) -> Generator[Mattes]:
        """Mattes of all objects as the model gives them, `first` to `end` (exclusive)."""
        shot = self._shot
        matters = [self.matter(name) for name in range(len(self._references))]
        coarse = [self._coarse(name, first, end) for name in range(len(self._plan.legs))]
        size = 1 if shot.request.images else batch_size_of(shot.options, self._model.device)
        with closing(shot.video.batches(size, start=first, end=end)) as batches:
            for batch in batches:
                if coarse:
                    pairs = zip(matters, coarse, strict=True)
                    yield tuple(_from_coarse(matter, batch, of) for matter, of in pairs)
                else:
                    yield tuple(matter(batch) for matter in matters)

    def _coarse(self, name: int, first: int, end: int) -> dict[int, list[tuple[Leg, CoarseMatte]]]:
        """The small mattes of an object by frame, each with the leg that it was found on."""
        found: dict[int, list[tuple[Leg, CoarseMatte]]] = {frame: [] for frame in range(first, end)}
        for number, leg in enumerate(self._plan.legs[name]):
            for chunk in self._plan.chunks(leg):
                low, high = self._plan.chunk_span(leg, chunk)
                if low < end and high > first:
                    path = chunk_file(self._folder, Unit("follow", chunk, name, number))
                    for frame, matte in load_mattes(path, max(low, first), min(high, end)).items():
                        found[frame].append((leg, matte))
        return found


def _from_coarse(
    matter: Matter, batch: FrameBatch, coarse: Mapping[int, Sequence[tuple[Leg, CoarseMatte]]]
) -> MatteBatch:
    return bring_to_full_size(matter, batch, [share_legs(frame, coarse[frame]) for frame in batch.frames])


def _inside(targets: Sequence[Target], folder: Path) -> list[Target]:
    """The same targets in a folder for each."""
    moved = []
    for number, target in enumerate(targets):
        place = folder / str(number)
        place.mkdir(parents=True)
        moved.append(replace(target, path=place / Path(target.path).name))
    return moved


def _save_thumbnails(path: Path, thumbnails: Sequence[Thumbnail]) -> None:
    arrays: dict[str, Any] = {}
    for shown in thumbnails:
        arrays[f"{shown.frame}"] = np.stack(shown.pictures)
        arrays[f"{shown.frame}.confidence"] = np.float64(shown.confidence)
        arrays[f"{shown.frame}.name"] = np.array(shown.name)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_thumbnails(path: Path) -> list[Thumbnail]:
    """The small pictures that were kept of a segment, in order of frames."""
    with np.load(path) as arrays:
        frames = sorted(int(name) for name in arrays.files if name.isdecimal())
        return [
            Thumbnail(frame, str(arrays[f"{frame}.name"]), float(arrays[f"{frame}.confidence"]), *arrays[str(frame)])
            for frame in frames
        ]
