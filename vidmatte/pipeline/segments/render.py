"""What is done in a unit: adapt, follow a chunk, render a segment; each from files to files."""

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
from vidmatte.media.atomic import sync_folder
from vidmatte.model.build import notes_of
from vidmatte.model.compact.predictor import CompactPredictor
from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import CoarseMatte, Model, Predictor
from vidmatte.options import ends_at_damage
from vidmatte.pipeline.models import (
    StepCallback,
    adapted,
    batch_size_of,
    predictor_of,
    sub_progress,
)
from vidmatte.pipeline.request import Shot
from vidmatte.pipeline.segments.chunks import (
    load_mattes,
    load_state,
    load_tensors,
    save_chunk,
    save_tensors,
)
from vidmatte.pipeline.segments.journal import Record
from vidmatte.pipeline.segments.plan import Plan, Unit
from vidmatte.prompts.objects import Mattes, together
from vidmatte.report import Thumbnail, Thumbnails, spread_frames
from vidmatte.report.summary import suggested_apart
from vidmatte.stages.chain import MattesCallback, postprocess
from vidmatte.stages.propagate import Pass, blend_passes, bring_to_full_size, propagate_chunk
from vidmatte.write import Outputs, OutputSpec, create_outputs

FrameCallback = Callable[[int], None]
THUMBNAILS = "thumbnails.npz"


def weights_file(folder: Path, name: int) -> Path:
    """Where the network that was adapted to an object is kept."""
    return folder / f"network.{name}.safetensors"


def chunk_file(folder: Path, unit: Unit) -> Path:
    """Where the mattes of a chunk are kept."""
    return folder / "propagated" / f"{unit.object}.{unit.pass_index}.{unit.index}.safetensors"


def part_folder(folder: Path, segment: int) -> Path:
    """Where a rendered segment is kept: a folder for each target in it, and small pictures."""
    return folder / "parts" / f"{segment:06d}"


def part_path(folder: Path, segment: int, number: int, spec: OutputSpec) -> Path:
    """The movie, or the folder of images, of one target in a segment."""
    place = part_folder(folder, segment) / str(number)
    return place / Path(spec.path).name if spec.format.is_movie else place


class Renderer:
    """Does units of one shot. All it keeps between them is what the shot itself determines."""

    def __init__(
        self,
        shot: Shot,
        plan: Plan,
        folder: Path,
        model: Model,
        *,
        on_mattes: MattesCallback | None = None,
    ) -> None:
        """`on_mattes` is given the mattes of each object that are handed to the outputs."""
        self._shot, self._plan, self._folder, self._model = shot, plan, folder, model
        self._on_mattes = on_mattes
        self._references = list(shot.references.values())
        self._encoded: dict[int, Predictor] = {}

    def run(
        self, unit: Unit, *, on_frame: FrameCallback, on_step: StepCallback | None = None
    ) -> Record:
        """Do a unit; returns what the journal is to say of it. `on_frame` is told how many frames came to be done."""
        if unit.kind == "adapt":
            return self._adapt(unit, on_step)
        return (
            self._propagate(unit, on_frame)
            if unit.kind == "propagate"
            else self._render(unit.index, on_frame)
        )

    def _adapt(self, unit: Unit, on_step: StepCallback | None) -> Record:
        shot = self._shot
        predictor = predictor_of(shot, self._model, self._references[unit.index])
        on_step = sub_progress(on_step, unit.index, len(self._references))
        predictor = adapted(
            predictor,
            shot.options.adapt_steps,
            self._plan.frames,
            shot.request.source.images,
            on_step,
        )
        assert isinstance(predictor, CompactPredictor)  # the plan has no others adapted
        save_tensors(weights_file(self._folder, unit.index), dict(predictor.model.net.state_dict()))
        return {"unit": unit.name}

    def predictor(self, name: int) -> Predictor:
        """The references of an object, encoded by the network that was adapted to them, if one was."""
        if name not in self._encoded:
            predictor = predictor_of(self._shot, self._model, self._references[name])
            if name in self._plan.adapted:
                assert isinstance(predictor, CompactPredictor)
                net = copy.deepcopy(predictor.model.net)
                net.load_state_dict(load_tensors(weights_file(self._folder, name))[0])
                predictor = predictor.with_network(net.eval())
            self._encoded[name] = predictor
        return with_display_transform(self._encoded[name], self._shot.video.info.color)

    def _propagate(self, unit: Unit, on_frame: FrameCallback) -> Record:
        plan, pass_ = self._plan, self._plan.passes[unit.object][unit.pass_index]
        predictor = self.predictor(unit.object)
        tracker = predictor.tracker()
        assert tracker is not None  # the plan has passes for models that follow
        predecessor, reference = plan.predecessor(unit), None
        if predecessor is not None:
            tracker.restore(load_state(chunk_file(self._folder, predecessor)))
        else:
            marks = (
                mark for mark in self._references[unit.object] if mark.frame == pass_.reference
            )
            reference = next(marks, None)
        first, end = plan.chunk_span(pass_, unit.index)
        mattes: dict[int, CoarseMatte] = {}
        found = propagate_chunk(
            predictor, tracker, self._shot.video, pass_, first=first, end=end, reference=reference
        )
        with closing(found):
            for frame, matte in found:
                if plan.first <= frame < plan.end:
                    mattes[frame] = matte
                on_frame(1)
        save_chunk(chunk_file(self._folder, unit), mattes, tracker.state())
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
                f"{shot.specs[0]}: a segment cannot be kept in {self._folder} ({error.strerror}); free some space, "
                f"and go on with --resume"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return {
            **record,
            "notes": notes_of(self._model),
            "seconds": round(time.monotonic() - began, 3),
        }

    def _write_parts(self, segment: int, folder: Path, on_frame: FrameCallback) -> dict[str, Any]:
        shot, plan = self._shot, self._plan
        first, end = plan.span(segment)
        thumbnails = Thumbnails(
            pixel_aspect=shot.video.info.sample_aspect_ratio,
            references=shot.reference_frames,
            apart=suggested_apart(is_set=shot.request.source.images),
            chosen=spread_frames(plan.first, plan.end),
        )
        facts: dict[str, list[Any]] = {"pts": [], "durations": [], "confidence": [], "names": []}
        with_color = shot.request.outputs.with_color
        device = self._model.device
        mattes = self._mattes(*plan.seen(segment))
        stages = postprocess(
            mattes,
            shot.options,
            shot.finisher,
            len(self._references),
            with_color,
            device,
            (first, end),
        )
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
        if len(facts["pts"]) < end - first and not ends_at_damage(shot.options):
            raise ReadError(
                f"{shot.video.info.source}: frame {first + len(facts['pts'])} cannot be read; repair the clip, or cut "
                f"it there with --end"
            )
        _save_thumbnails(folder / THUMBNAILS, thumbnails.kept)
        return {
            "unit": Unit("render", segment).name,
            "first": first,
            "frames": len(facts["pts"]),
            **facts,
        }

    def _outputs(self, folder: Path) -> Outputs:
        """The targets of the shot without sound, in a folder for each inside of `folder`."""
        return create_outputs(
            _inside(self._shot.specs, folder),
            like=self._shot.video.info,
            premultiplied=self._shot.options.premultiplied,
            bit_depth=self._shot.options.bit_depth,
            start=Fraction(0),
            audio=False,
            command=self._shot.invocation.recipe(),
        )

    def _mattes(self, first: int, end: int) -> Generator[Mattes]:
        """Mattes of all objects as the model gives them, `first` to `end` (exclusive)."""
        shot = self._shot
        predictors = [self.predictor(name) for name in range(len(self._references))]
        coarse = [self._coarse(name, first, end) for name in range(len(self._plan.passes))]
        size = 1 if shot.request.source.images else batch_size_of(shot.options, self._model.device)
        with closing(shot.video.batches(size, start=first, end=end)) as batches:
            for batch in batches:
                if coarse:
                    pairs = zip(predictors, coarse, strict=True)
                    yield tuple(_from_coarse(predictor, batch, of) for predictor, of in pairs)
                else:
                    yield tuple(predictor(batch) for predictor in predictors)

    def _coarse(self, name: int, first: int, end: int) -> dict[int, list[tuple[Pass, CoarseMatte]]]:
        """The small mattes of an object by frame, each with the pass that it was found on."""
        found: dict[int, list[tuple[Pass, CoarseMatte]]] = {
            frame: [] for frame in range(first, end)
        }
        for number, pass_ in enumerate(self._plan.passes[name]):
            for chunk in self._plan.chunks(pass_):
                low, high = self._plan.chunk_span(pass_, chunk)
                if low < end and high > first:
                    path = chunk_file(self._folder, Unit("propagate", chunk, name, number))
                    for frame, matte in load_mattes(path, max(low, first), min(high, end)).items():
                        found[frame].append((pass_, matte))
        return found


def _from_coarse(
    predictor: Predictor,
    batch: FrameBatch,
    coarse: Mapping[int, Sequence[tuple[Pass, CoarseMatte]]],
) -> MatteBatch:
    return bring_to_full_size(
        predictor, batch, [blend_passes(frame, coarse[frame]) for frame in batch.frames]
    )


def _inside(specs: Sequence[OutputSpec], folder: Path) -> list[OutputSpec]:
    """The same targets in a folder for each."""
    moved = []
    for number, spec in enumerate(specs):
        place = folder / str(number)
        place.mkdir(parents=True)
        moved.append(replace(spec, path=place / Path(spec.path).name))
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
            Thumbnail(
                frame,
                str(arrays[f"{frame}.name"]),
                float(arrays[f"{frame}.confidence"]),
                *arrays[str(frame)],
            )
            for frame in frames
        ]
