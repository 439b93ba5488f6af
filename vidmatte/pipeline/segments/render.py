"""Do the units of a long render from files to files: adapt, propagate a chunk, render a segment."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.errors import ReadError, WriteError
from vidmatte.frames import MatteBatch
from vidmatte.media.atomic import sync_folder
from vidmatte.model.build import notes_of
from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import CoarseMatte, Model, Predictor, SupportsAdaptation
from vidmatte.options import ends_at_damage
from vidmatte.pipeline.color import output_space
from vidmatte.pipeline.models import adapted, batch_size_of, predictor_of
from vidmatte.pipeline.progress import Stage, Work
from vidmatte.pipeline.request import Shot
from vidmatte.pipeline.segments.chunks import (
    load_mattes,
    load_state,
    load_tensors,
    save_chunk,
    save_tensors,
)
from vidmatte.pipeline.segments.journal import Record
from vidmatte.pipeline.segments.plan import Plan, Unit, UnitKind
from vidmatte.prompts.objects import Mattes, together
from vidmatte.report import Thumbnail, Thumbnails, spread_frames
from vidmatte.report.summary import suggested_apart
from vidmatte.stages.chain import MattesCallback, postprocess
from vidmatte.stages.full_size import ShownBatch, bring_to_full_size, keep_given_areas
from vidmatte.stages.passes import Pass, blend_passes
from vidmatte.stages.propagator import Propagator, chunk_frames, frames_of
from vidmatte.write import Outputs, OutputSpec, create_outputs
from vidmatte.write.partial import lock

FrameCallback = Callable[[int], None]
"""Called with the number of frames done."""
STAGES: Mapping[UnitKind, Stage] = {
    "adapt": "adapting",
    "propagate": "propagating",
    "render": "matting",
    "join": "joining",
}
"""What is done in a unit, as `Work` counts it."""
THUMBNAILS = "thumbnails.npz"


def weights_file(folder: Path, number: int) -> Path:
    """Return the file of the network that was adapted to an object."""
    return folder / f"network.{number}.safetensors"


def chunk_file(folder: Path, unit: Unit) -> Path:
    """Return the file of a chunk's propagated mattes."""
    return folder / "propagated" / f"{unit.object}.{unit.pass_index}.{unit.index}.safetensors"


def part_folder(folder: Path, segment: int) -> Path:
    """Return the folder of a rendered segment: it holds a folder per output, and thumbnails."""
    return folder / "parts" / f"{segment:06d}"


def part_path(folder: Path, segment: int, number: int, spec: OutputSpec) -> Path:
    """Return the movie, or the folder of images, of one output in a segment."""
    # Images lie in the folder itself; a movie has its name, whose ending decides the container.
    place = part_folder(folder, segment) / str(number)
    return place / Path(spec.path).name if spec.format.is_movie else place


class Renderer:
    """Does units of one shot. All that it keeps between them follows from the shot."""

    def __init__(
        self,
        shot: Shot,
        plan: Plan,
        folder: Path,
        model: Model,
        *,
        on_mattes: MattesCallback | None = None,
    ) -> None:
        """Take a shot, its plan, its work folder, and its model.

        `on_mattes` is called with the mattes of each object as they are handed to the outputs.
        """
        self._shot = shot
        self._plan = plan
        self._folder = folder
        self._model = model
        self._on_mattes = on_mattes
        self._references = list(shot.references.values())
        self._encoded: dict[int, Predictor] = {}

    def run(self, unit: Unit, work: Work) -> Record:
        """Do a unit, counted as `work`, and return its record for the journal."""
        if unit.kind == "adapt":
            return self._adapt(unit, work)

        def on_frame(frames: int) -> None:
            work.add(STAGES[unit.kind], frames)

        if unit.kind == "propagate":
            return self._propagate(unit, on_frame)
        return self._render(unit.index, on_frame)

    def predictor(self, number: int) -> Predictor:
        """Return the predictor of an object, for frames as they are read."""
        # Not kept with it: it depends on the colour of the clip alone and holds no memory.
        return with_display_transform(self._predictor(number), self._shot.video.info.color)

    def _predictor(self, number: int) -> Predictor:
        """Return the predictor of an object, with the adapted network if there is one."""
        if number not in self._encoded:
            predictor = predictor_of(self._shot, self._model, self._references[number])
            if number in self._plan.adapted:
                assert isinstance(predictor, SupportsAdaptation)  # the plan adapts no others
                weights, _ = load_tensors(weights_file(self._folder, number))
                predictor = predictor.with_weights(weights)
            self._encoded[number] = predictor
        return self._encoded[number]

    def _adapt(self, unit: Unit, work: Work) -> Record:
        shot = self._shot
        predictor = adapted(
            predictor_of(shot, self._model, self._references[unit.index]),
            shot.options.adapt_steps,
            shot.request.source.images,
            work,
        )
        assert isinstance(predictor, SupportsAdaptation)  # the plan adapts no others
        save_tensors(weights_file(self._folder, unit.index), predictor.weights())
        return {"unit": unit.name}

    def _propagate(self, unit: Unit, on_frame: FrameCallback) -> Record:
        plan = self._plan
        pass_ = plan.passes[unit.object][unit.pass_index]
        video = self._shot.video
        predictor = self.predictor(unit.object)
        tracker = predictor.tracker()
        assert tracker is not None  # the plan has passes for models with a tracker only
        reference = None
        predecessor = plan.predecessor(unit)
        if predecessor is not None:
            tracker.restore(load_state(chunk_file(self._folder, predecessor)))
        else:
            marked = {mark.frame: mark for mark in self._references[unit.object]}
            reference = marked.get(pass_.reference)
        first, end = plan.chunk_span(pass_, unit.index)
        found = Propagator(predictor, tracker, pass_, source=video.info.source).run(
            frames_of(video),
            first=first,
            end=end,
            reference=reference,
            # Backward frames are decoded in chunks and reversed, as decoders run forward only.
            chunk=chunk_frames(predictor, video) if pass_.is_backward else 1,
        )
        mattes: dict[int, CoarseMatte] = {}
        with closing(found):
            for frame, matte in found:
                # A pass may begin before the first wanted frame, at its reference.
                if plan.first <= frame < plan.end:
                    mattes[frame] = matte
                on_frame(1)
        # The mattes must not be kept if a frame came from a file that was swapped meanwhile.
        self._shot.check_unchanged()
        save_chunk(chunk_file(self._folder, unit), mattes, tracker.state())
        return {"unit": unit.name}

    def _render(self, segment: int, on_frame: FrameCallback) -> Record:
        began = time.monotonic()
        final = part_folder(self._folder, segment)
        # Random: a lost worker and its successor may render the same segment side by side.
        partial = final.with_name(f".{final.name}.{secrets.token_hex(4)}.partial")
        held = None
        try:
            partial.mkdir(parents=True)
            held = lock(partial)  # tells a run that resumes that it is not abandoned
            record = self._write_parts(segment, partial, on_frame)
            # A worker that was lost before it could report the segment may have left the same.
            if not final.exists():
                # Atomic, and before the journal records the segment.
                os.replace(partial, final)
                sync_folder(final.parent)
        except OSError as error:
            if isinstance(error, WriteError):
                raise
            raise WriteError(
                f"{self._shot.specs[0]}: a segment cannot be kept in {self._folder} "
                f"({error.strerror}); free some space, and continue with --resume"
            ) from error
        finally:
            if held is not None:
                os.close(held)
            shutil.rmtree(partial, ignore_errors=True)
        return {
            **record,
            "notes": notes_of(self._model),
            "seconds": round(time.monotonic() - began, 3),
        }

    def _write_parts(self, segment: int, folder: Path, on_frame: FrameCallback) -> dict[str, Any]:
        """Write a segment of each output and its thumbnails to a folder, and return its facts."""
        shot = self._shot
        plan = self._plan
        first, end = plan.span(segment)
        thumbnails = Thumbnails(
            pixel_aspect=shot.video.info.sample_aspect_ratio,
            references=shot.reference_frames,
            # All segments together show thumbnails at the distance that one run would choose.
            apart=suggested_apart(is_set=shot.request.source.images),
            first_number=shot.video.first_number,
            chosen=spread_frames(shot.video.number_of(plan.first), shot.video.number_of(plan.end)),
            color=shot.video.info.color,
        )
        facts: dict[str, list[Any]] = {"pts": [], "durations": [], "confidence": [], "names": []}
        stages = postprocess(
            self._mattes(*plan.seen(segment)),
            shot.options,
            shot.finisher,
            len(self._references),
            shot.request.outputs.with_color,
            self._model.device,
            (first, end),
        )
        with closing(stages):
            # create_outputs cannot make a file without a frame.
            # Outputs cannot be created for nothing: a truncated clip may have no frame here.
            begun = next(stages, None)
            if begun is not None:
                with closing(self._write(chain([begun], stages), folder)) as written:
                    for batch in written:
                        thumbnails.add(batch)
                        facts["pts"] += batch.source.pts
                        facts["durations"] += batch.source.durations
                        facts["names"] += batch.source.names
                        facts["confidence"] += batch.confidence
                        on_frame(len(batch))
        frames = len(facts["pts"])
        if frames < end - first and not ends_at_damage(shot.options):
            raise ReadError(
                f"{shot.video.info.source}: frame {first + frames} cannot be read; repair the "
                f"clip, or cut it there with --end"
            )
        shot.check_unchanged()
        _save_thumbnails(folder / THUMBNAILS, thumbnails.kept)
        unit = Unit("render", segment)
        found = shot.truncated_at
        # The clip is shared by all segments: only what this one looked at counts.
        is_truncated = found is not None and found[0] < plan.seen(segment)[1]
        truncated = {"truncated_at": found} if is_truncated else {}
        return {"unit": unit.name, "first": first, "frames": frames, **facts, **truncated}

    def _write(self, mattes: Iterable[Mattes], folder: Path) -> Generator[MatteBatch]:
        """Write the mattes of all objects to a folder; yields one matte of all of them."""
        with self._outputs(folder) as out:
            for batches in mattes:
                of_objects = dict(zip(self._shot.references, batches, strict=True))
                out.write(of_objects)
                if self._on_mattes is not None:
                    self._on_mattes(of_objects)
                yield together(batches)

    def _outputs(self, folder: Path) -> Outputs:
        """Return the outputs of the shot without sound, each in a folder of its own in `folder`."""
        return create_outputs(
            _inside(self._shot.specs, folder),
            like=self._shot.video.info,
            premultiplied=self._shot.options.premultiplied,
            bit_depth=self._shot.options.bit_depth,
            start=Fraction(0),
            # Sound is not cut: it is copied once, when the segments are joined.
            audio=False,
            command=self._shot.invocation.recipe(),
            weights=self._shot.weights,
            output_space=output_space(self._shot.options),
        )

    def _mattes(self, first: int, end: int) -> Generator[Mattes]:
        """Yield the mattes of all objects before postprocessing, `first` to `end` (exclusive)."""
        shot = self._shot
        names = range(len(self._references))
        coarse = [self._coarse(name, first, end) for name in range(len(self._plan.passes))]
        # Images of a set may differ in size, so they do not fit into one batch.
        size = 1 if shot.request.source.images else batch_size_of(shot.options, self._model.device)
        with closing(shot.video.batches(size, start=first, end=end)) as batches:
            for batch in batches:
                if coarse:
                    predictors = [self._predictor(name) for name in names]
                    shown = ShownBatch.of(batch, shot.video.info.color)
                    pairs = zip(predictors, coarse, strict=True)
                    found = [_from_coarse(predictor, shown, of) for predictor, of in pairs]
                else:
                    found = [self.predictor(name)(batch) for name in names]
                marked = zip(found, self._references, strict=True)
                yield tuple(keep_given_areas(mattes, marks) for mattes, marks in marked)

    def _coarse(self, name: int, first: int, end: int) -> dict[int, list[tuple[Pass, CoarseMatte]]]:
        """Return the coarse mattes of an object by frame, each with its pass."""
        found: dict[int, list[tuple[Pass, CoarseMatte]]] = {
            frame: [] for frame in range(first, end)
        }
        for number, pass_ in enumerate(self._plan.passes[name]):
            # Few chunks overlap a segment; the others are skipped by their numbers.
            for chunk in self._plan.chunks(pass_):
                low, high = self._plan.chunk_span(pass_, chunk)
                if low < end and high > first:
                    path = chunk_file(self._folder, Unit("propagate", chunk, name, number))
                    for frame, matte in load_mattes(path, max(low, first), min(high, end)).items():
                        found[frame].append((pass_, matte))
        return found


def _from_coarse(
    predictor: Predictor,
    shown: ShownBatch,
    coarse: Mapping[int, Sequence[tuple[Pass, CoarseMatte]]],
) -> MatteBatch:
    return bring_to_full_size(
        predictor, shown, [blend_passes(frame, coarse[frame]) for frame in shown.batch.frames]
    )


def _inside(specs: Sequence[OutputSpec], folder: Path) -> list[OutputSpec]:
    """Return the same outputs, each in a folder of its own."""
    moved = []
    for number, spec in enumerate(specs):
        place = folder / str(number)
        place.mkdir(parents=True)
        moved.append(replace(spec, path=place / Path(spec.path).name))
    return moved


def load_all_thumbnails(folder: Path, plan: Plan) -> list[Thumbnail]:
    """Return the thumbnails of all segments that are still in the work folder."""
    paths = [part_folder(folder, segment) / THUMBNAILS for segment in range(plan.segments)]
    return [shown for path in paths if path.is_file() for shown in load_thumbnails(path)]


def _save_thumbnails(path: Path, thumbnails: Sequence[Thumbnail]) -> None:
    arrays: dict[str, Any] = {}
    for shown in thumbnails:
        arrays[f"{shown.frame}"] = np.stack(shown.pictures)
        arrays[f"{shown.frame}.confidence"] = np.float64(shown.confidence)
        arrays[f"{shown.frame}.name"] = np.array(shown.name)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_thumbnails(path: Path) -> list[Thumbnail]:
    """Return the thumbnails of a segment, in order of frames."""
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
