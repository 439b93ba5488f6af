"""One render engine for long shots: begin, do the units in any process, join.

The command line does all of it in one process; workers of a batch and tasks of a farm each do a
part. Their common state is the work folder, see `journal`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from vidmatte import __version__
from vidmatte.errors import OptionError, ReadError, WriteError
from vidmatte.media.closing import Closing
from vidmatte.model.interface import Model
from vidmatte.options import MatteOptions
from vidmatte.pipeline.models import check_adaptation, model_of, predictor_of, share_cores
from vidmatte.pipeline.progress import Stage, Work
from vidmatte.pipeline.request import Request, Shot
from vidmatte.pipeline.segments.fingerprint import Fingerprint, fingerprint, stamps_of
from vidmatte.pipeline.segments.joining import finish_joined, is_joined, join
from vidmatte.pipeline.segments.journal import Journal, Record, work_folder
from vidmatte.pipeline.segments.plan import JOIN, Plan, Schedule, Unit, UnitKind
from vidmatte.pipeline.segments.render import STAGES, Renderer, chunk_file
from vidmatte.report.summary import Summary
from vidmatte.stages.chain import MattesCallback
from vidmatte.stages.passes import Pass, passes_of_object

_SMOOTHED_OVER = 1
"""Frames that the smoother looks ahead and back."""


class LongRender:
    """A shot that is rendered in segments."""

    def __init__(
        self,
        shot: Shot,
        load_model: Callable[[MatteOptions], Model],
        *,
        plan: Plan | None = None,
        on_mattes: MattesCallback | None = None,
    ) -> None:
        """Prepare a render; nothing is read or written yet.

        Args:
            shot: The opened shot.
            load_model: Loads the model of its options.
            plan: The plan of a render that was begun; None before `begin`.
            on_mattes: Called with the mattes of each object as they are handed to the outputs.
        """
        self.shot = shot
        self.journal = journal_of(shot.request)
        self._load_model = load_model
        self._on_mattes = on_mattes
        self._plan = plan
        self._renderer: Renderer | None = None

    @property
    def plan(self) -> Plan:
        """Return the plan; the render must have been begun."""
        if self._plan is None:
            self._plan = Plan.from_json(self.journal.header()["plan"])
        return self._plan

    @property
    def is_joined(self) -> bool:
        """Whether the outputs are in place, so that only the work folder has to be removed."""
        return is_joined(self.journal)

    @contextmanager
    def begin(
        self, frames: int, identity: Fingerprint, *, threads: int | None = None
    ) -> Iterator[None]:
        """Lock the shot for the block, and plan it or resume a stopped run.

        Within the block, cores are shared as in `share_cores`.

        Args:
            frames: Number of frames of the shot.
            identity: Fingerprint of its request.
            threads: Number of threads; None for that of the resumed run, or the default.

        Raises:
                OptionError: If the work of a stopped run may not be resumed, or another run is
                    writing these outputs.
                WriteError: If an output exists already or cannot be written.
        """
        with self.journal.lock():
            # Only under the lock: until then another run may still be busy with the same outputs.
            resuming = can_resume(self.journal, self.shot.request, identity)
            # A join that was cut short has created outputs itself; they are no reason to refuse.
            if not (resuming and any("joining" in record for record in self.journal.records())):
                check_outputs(self.shot)  # now, and not after everything is rendered
            if resuming and threads is None:
                # Another number of threads changes the last bits: segments would not match at their
                # seam.
                threads = int(self.journal.header()["threads"])
            try:
                with share_cores(self.shot.options, threads):
                    if not (resuming and self.is_joined):
                        self._plan_or_resume(frames, identity, resuming)
                    yield
            except BaseException:
                with suppress(WriteError):  # the first error is the one to report
                    self.journal.remove_if_empty()
                raise

    def _plan_or_resume(self, frames: int, identity: Fingerprint, resuming: bool) -> None:
        model = model_of(self.shot, self._load_model)
        self._plan = make_plan(self.shot, model, frames)
        if resuming:
            self.journal.remove_stale()
            # The inputs are the same by their content, but may be copies with other times.
            self.journal.add({"stamps": identity.stamps})
        else:
            header = _header_of(identity, model, self._plan, torch.get_num_threads())
            self.journal.begin(header)
        self._renderer = self._create_renderer(model)

    @property
    def renderer(self) -> Renderer:
        """Return the renderer of the units, with the model loaded.

        Raises OptionError if the finished units were computed in another environment.
        """
        if self._renderer is None:
            self._renderer = self._create_renderer(model_of(self.shot, self._load_model))
        return self._renderer

    def _create_renderer(self, model: Model) -> Renderer:
        check_environment(self.journal, model)
        check_inputs(self.journal, self.shot.request)
        return Renderer(self.shot, self.plan, self.journal.folder, model, on_mattes=self._on_mattes)

    def expect(self, work: Work) -> None:
        """Say how much work the plan is, and how much of it was done before."""
        plan = self.plan
        steps = self.shot.options.adapt_steps
        totals: dict[Stage, int] = {
            "adapting": steps * len(plan.adapted),
            "propagating": plan.propagated_frames,
            "matting": plan.frames,
            "joining": plan.segments,
        }
        done = Counter[Stage]()
        for unit in map(Unit.parse, self.journal.done()):
            done[STAGES[unit.kind]] += steps if unit.kind == "adapt" else plan.size(unit)
        for stage, total in totals.items():
            if total:
                work.expect(stage, total, done=done[stage])

    def join(
        self,
        *,
        began: float | None = None,
        work: Work | None = None,
        on_joined: Callable[[], None] = lambda: None,
    ) -> Summary:
        """Put the outputs in place, and remove the work folder; see `joining.join`.

        If the outputs are in place already, only the work folder is removed.
        """
        began = time.monotonic() if began is None else began
        if self.is_joined:
            return finish_joined(self.shot, self.plan, self.journal, began=began)
        with_report = self.shot.request.outputs.report is not None
        return join(
            self.shot,
            self.plan,
            self.journal,
            # Only the report draws what the predictor saw; without one, no model is loaded to join.
            predictor=self.renderer.predictor(0) if with_report else None,
            began=began,
            work=work or Work(),
            on_joined=on_joined,
        )


def do_units(
    plan: Plan,
    journal: Journal,
    run: Callable[[Unit], Record],
    *,
    before: UnitKind = "join",
    beside: BesideRunner | None = None,
) -> None:
    """Do the units that are not done yet, and note each in the journal.

    Stops before the first unit of the kind `before`.

    Args:
        plan: The units.
        journal: The journal that knows the finished ones.
        run: Does a unit and returns its record.
        before: Kind of the first unit that is not done.
        beside: Propagates a chunk while `run` renders a segment; None to do one after the other.
    """
    done = set(journal.done())
    # Propagation runs ahead of all segments if those are not done here.
    ahead = 1 if before == "join" else plan.segments + 1
    schedule = Schedule(plan, done, ahead=ahead)

    def note(unit: Unit, record: Record) -> None:
        journal.add(record)
        done.add(unit.name)
        schedule.finish(unit)
        delete_chunks(plan, journal.folder, unit, done)

    def take() -> Unit | None:
        if beside is not None and beside.is_done:
            note(*beside.result())
        unit = schedule.take()
        while unit is None and beside is not None and beside.unit is not None:
            # Everything else waits for this chunk.
            note(*beside.result())
            unit = schedule.take()
        return unit

    while (unit := take()) is not None and unit != JOIN and unit.kind != before:
        if beside is None or not beside.takes(unit, schedule):
            note(unit, run(unit))


class BesideRunner(Closing):
    """Does units on a thread of its own, one at a time; leaving its block stops the unit."""

    def __init__(self, run: Callable[[Unit, Work], Record], work: Work) -> None:
        """Take a function that does a unit, counts it in `work` and returns its record.

        The function is stopped by an exception when it counts the next frame.
        """
        self.unit: Unit | None = None
        self._run = run
        self._stopped = threading.Event()
        self._work = _StoppableWork(work, self._stopped)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vidmatte-beside")
        self._future: Future[Record] | None = None

    def takes(self, unit: Unit, schedule: Schedule) -> bool:
        """Begin a chunk, and return whether it is this unit.

        Beside a segment, the next chunk of the schedule is begun if there is one now.
        """
        if self.unit is not None or unit.kind == "adapt":
            return False
        if unit.kind == "propagate":
            self._start(unit)
            return True
        following = schedule.take()
        if following is not None and following.kind == "propagate":
            self._start(following)
        elif following is not None:
            schedule.requeue(following)
        return False

    def _start(self, unit: Unit) -> None:
        self.unit = unit
        self._future = self._pool.submit(self._run, unit, self._work)

    @property
    def is_done(self) -> bool:
        """Whether a unit was begun, and its result is ready."""
        return self._future is not None and self._future.done()

    def result(self) -> tuple[Unit, Record]:
        """Wait for the unit, and return it with its record; raise its error."""
        assert self._future is not None
        assert self.unit is not None
        done = self.unit, self._future.result()
        self.unit = None
        self._future = None
        return done

    def close(self) -> None:
        """Stop the unit after the frame that it is at."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


class _StoppableWork(Work):
    """Counts in the work of a run, and ends the unit that does so after it was stopped."""

    def __init__(self, work: Work, stopped: threading.Event) -> None:
        super().__init__()
        self._work = work
        self._stopped = stopped

    def begin(self, stage: Stage) -> None:
        self._check()
        self._work.begin(stage)

    def add(self, stage: Stage, units: int = 1, *, is_reported: bool = True) -> None:
        self._check()
        self._work.add(stage, units, is_reported=is_reported)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """Ends a unit that nobody waits for any more."""


def may_be_segmented(shot: Shot) -> bool:
    """Return whether a shot is rendered in segments if the headers are right about its length."""
    if not shot.specs or not all(spec.format.concatenable for spec in shot.specs):
        return False
    # Frames in memory leave nothing that a later run could find again.
    in_memory = len(shot.request.source.frames) > 0
    return not in_memory and (shot.expected is None or shot.expected > shot.options.segment_frames)


def frames_if_segmented(shot: Shot) -> int | None:
    """Return the number of frames of a shot that is rendered in segments; None for other shots.

    These are shots of more frames than one segment, whose outputs can all be concatenated.
    """
    if not may_be_segmented(shot):
        return None
    # The frames are counted only here, as that may read the whole file.
    length = shot.options.segment_frames
    counted = shot.video.count_frames()
    end = counted if shot.end is None else min(counted, shot.end)
    frames = max(0, end - shot.start)
    return frames if frames > length else None


def make_plan(shot: Shot, model: Model, frames: int) -> Plan:
    """Return the plan of a shot of that many frames, with the units needed by the model."""
    references = list(shot.references.values())
    # Whether there are adaptation and passes is a matter of the model, not of the object.
    predictor = predictor_of(shot, model, references[0])
    end = shot.start + frames
    images = shot.request.source.images
    steps = shot.options.adapt_steps
    check_adaptation(predictor, steps, images)
    passes: tuple[tuple[Pass, ...], ...] = ()
    if not images and predictor.tracker() is not None:
        passes = tuple(
            tuple(passes_of_object([mark.frame for mark in marks], shot.start, end))
            for marks in references
        )
    return Plan(
        first=shot.start,
        end=end,
        length=shot.options.segment_frames,
        adapted=tuple(range(len(references))) if steps else (),
        passes=passes,
        overlap=_SMOOTHED_OVER if shot.options.smooth else 0,
    )


def journal_of(request: Request) -> Journal:
    """Return the journal of a request, beside its first output.

    Outputs keep their order, so every process finds the same folder.
    """
    return Journal(work_folder(request.outputs.specs[0].path))


def can_resume(journal: Journal, request: Request, identity: Fingerprint) -> bool:
    """Return whether a journal holds finished units for this request.

    Raises OptionError if a stopped run left work, and the request neither resumes nor overwrites
    it, or is not the request of that work.
    """
    options = request.options
    if next(journal.done(), None) is None or (options.overwrite and not options.resume):
        return False
    header = journal.header()
    done = sum(name.startswith("render:") for name in journal.done())
    found = (
        f"{request.outputs.specs[0]}: a run that was stopped left its work "
        f"({done} finished segments) in {journal.folder}"
    )
    if not options.resume:
        raise OptionError(f"{found}; use --resume to continue, or --overwrite to start over")
    if header.get("key") != identity.key:
        raise OptionError(
            f"{found}, with other inputs, prompts, options or weights, or of another version "
            f"({header.get('version')}); run it with the original options, or use --overwrite "
            f"without --resume to start over"
        )
    return True


def resumable(request: Request) -> Request:
    """Return the request so that it resumes the work of a stopped run, if that was the same run.

    Work of another run for the same outputs is removed.

    Raises:
        OptionError: If another process is rendering these outputs.
    """
    fresh = replace(request, options=replace(request.options, resume=False))
    journal = journal_of(fresh)
    if next(journal.done(), None) is None:
        return fresh
    if journal.header().get("key") == fingerprint(fresh).key:
        return replace(fresh, options=replace(fresh.options, resume=True))
    with journal.lock():
        journal.remove()
    return fresh


def check_outputs(shot: Shot) -> None:
    """Raise what `join` would raise at its end, such as for outputs that exist already."""
    shot.create_outputs(overwrite=shot.options.overwrite)
    shot.create_report(overwrite=shot.options.overwrite)
    shot.create_sidecars(overwrite=shot.options.overwrite)


def _header_of(identity: Fingerprint, model: Model, plan: Plan, threads: int) -> Record:
    """Return the first line of a journal: the request, and the environment of its last bits."""
    return {
        "version": __version__,
        "key": identity.key,
        "stamps": identity.stamps,
        "model": model.name,
        "device": str(model.device),
        "precision": str(model.precision).removeprefix("torch."),
        "threads": threads,
        "torch": torch.__version__,
        "plan": plan.as_json(),
    }


def check_environment(journal: Journal, model: Model) -> None:
    """Raise OptionError if the units were computed by another torch, device or precision."""
    header = journal.header()
    if header["torch"] != torch.__version__:
        raise OptionError(
            f"{journal.folder}: its segments were computed with torch {header['torch']}, and this "
            f"is {torch.__version__}; install that version, or use --overwrite without --resume to "
            f"start over"
        )
    # "cuda:0" and "cuda:1" compute the same.
    was = (str(header["device"]).partition(":")[0], header["precision"])
    now = (model.device.type, str(model.precision).removeprefix("torch."))
    if was != now:
        raise OptionError(
            f"{journal.folder}: its segments were computed on {was[0]} in {was[1]}, and the rest "
            f"would be on {now[0]} in {now[1]}; give --device {was[0]} --precision {was[1]}, or "
            f"--overwrite without --resume to start over"
        )


def check_inputs(journal: Journal, request: Request) -> None:
    """Raise ReadError if an input was replaced or rewritten since the render was begun."""
    begun = [record["stamps"] for record in journal.records() if "stamps" in record]
    # The last one counts: `_plan_or_resume` adds one for inputs that were copied.
    if begun[-1] != stamps_of(request):
        raise ReadError(
            f"{request.source.paths[0]}: this input, or another one of the run, was replaced or "
            f"changed since the first segments were rendered; put it back and use --resume, or use "
            f"--overwrite without --resume to start over"
        )


def delete_chunks(plan: Plan, folder: Path, unit: Unit, done: Set[str]) -> None:
    """Remove propagated chunks that are no longer needed, after a unit was done.

    `done` are the names of all finished units.
    """
    near = set(plan.dependencies(unit.index)) if unit.kind == "render" else {unit}
    predecessor = plan.predecessor(unit) if unit.kind == "propagate" else None
    # A finished chunk has read the state of its predecessor, which may have been waiting for it.
    if predecessor is not None:
        near.add(predecessor)
    for chunk in near:
        if chunk.kind == "propagate" and _is_spent(plan, chunk, done):
            chunk_file(folder, chunk).unlink(missing_ok=True)


def _is_spent(plan: Plan, chunk: Unit, done: Set[str]) -> bool:
    """Return whether the next chunk was propagated, and all dependent segments are rendered."""
    chunks = plan.chunks(plan.passes[chunk.object][chunk.pass_index])
    after = chunks.index(chunk.index) + 1
    if after < len(chunks):
        successor = Unit("propagate", chunks[after], chunk.object, chunk.pass_index)
        if successor.name not in done:
            return False
    return all(Unit("render", segment).name in done for segment in plan.dependents(chunk))
