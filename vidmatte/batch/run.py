"""Run a batch: give units to the workers of an engine, and keep journals and results."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vidmatte.batch.engine import Engine, TaskDone, WorkerLost
from vidmatte.batch.machines import Machines
from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.results import Results
from vidmatte.batch.task import BEGIN, Outcome, Progress, Task
from vidmatte.batch.upload import existing_outputs, remove_staging_folders
from vidmatte.errors import VidmatteError
from vidmatte.pipeline.segments.journal import Journal
from vidmatte.pipeline.segments.long_render import delete_chunks, journal_of
from vidmatte.pipeline.segments.plan import JOIN, Plan, Schedule, Unit

State = Literal["waiting", "running", "done", "up to date", "failed", "stopped"]
_MAX_CRASHES = 3
"""A unit is given up after so many lost workers: it may be the cause."""
_WAIT_SECONDS = 0.2
_START_SECONDS = 120.0
"""Longest wait for workers still being started."""
_AHEAD = 2
"""Number of segments per worker by which propagation may be ahead of rendering."""


@dataclass
class ShotRun:
    """The progress of a shot."""

    shot: ShotRequest
    state: State = "waiting"
    reason: str = ""
    error: str = ""
    frames: int = 0
    """Propagated and rendered frames; long clips count both."""
    total: int | None = None
    """Total of the same, None if it is not known."""
    began: float = 0.0
    seconds: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict)

    plan: Plan | None = None
    key: str = ""
    file_fingerprints: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    schedule: Schedule | None = None
    journal: Journal | None = None
    done: set[str] = field(default_factory=set)
    running: int = 0
    tries: int = 0
    crash_count: Counter[str] = field(default_factory=Counter)
    """How often the worker of a unit was lost, by unit."""
    lock: ExitStack = field(default_factory=ExitStack)

    @property
    def name(self) -> str:
        """Return the name of the shot."""
        return self.shot.name

    def claim_outputs(self) -> None:
        """Let the shot replace its outputs: an earlier try of this shot wrote them."""
        request = self.shot.request
        self.shot = replace(
            self.shot, request=replace(request, options=replace(request.options, overwrite=True))
        )

    @property
    def is_over(self) -> bool:
        """Return whether the shot has ended, in whatever way."""
        return self.state in ("done", "up to date", "failed", "stopped")


class BatchRun:
    """All shots of a batch. `stop()` lets running tasks finish, and begins no others."""

    def __init__(
        self,
        shots: Sequence[ShotRequest],
        engine: Engine,
        results: Results,
        *,
        threads: int,
        retries: int = 0,
        sheets: Path | None = None,
        watch: Callable[[ShotRun], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare the run; nothing is started.

        Args:
            shots: The shots, in order of their beginning.
            engine: The workers, started.
            results: The results, for the outcome of each shot.
            threads: Processor threads of each worker's network.
            retries: Number of repetitions after errors that may pass.
            sheets: Folder for contact sheets; None for none.
            watch: Is called at every change of a shot.
            note: Is called with sentences about the batch as a whole.
        """
        self.shots = [ShotRun(shot, threads=threads) for shot in shots]
        self._by_name = {run.name: run for run in self.shots}
        self._engine = engine
        self._results = results
        self._retries = retries
        self._sheets = sheets
        self._watch = watch or (lambda run: None)
        self._note = note or (lambda text: None)
        self._waiting = deque(self.shots)
        self._active: list[ShotRun] = []
        self._machines = Machines()
        self._starting_since = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        """Begin nothing more; running tasks are finished."""
        self._stopping = True

    def run(self) -> list[ShotRun]:
        """Do all possible work, and return the state of each shot at the end."""
        try:
            # Work is given out first, then events are awaited.
            while self._give_out() or self._engine.running or self._waits_for_workers():
                for event in self._engine.poll(_WAIT_SECONDS):
                    if isinstance(event, Progress):
                        self._count(event)
                    elif isinstance(event, WorkerLost):
                        self._on_worker_lost(event)
                    else:
                        self._take(event)
        finally:
            for run in self.shots:
                # Whatever ends the loop, locks and empty folders must not stay.
                self._let_go(run)
                if not run.is_over:
                    run.state = "stopped"
                    self._watch(run)
        return self.shots

    def _waits_for_workers(self) -> bool:
        """Return whether there is work, but no worker except those being started."""
        has_work = bool(self._waiting) or any(run.schedule is not None for run in self._active)
        return has_work and self._engine.starting > 0 and not self._stopping

    def _give_out(self) -> bool:
        """Give tasks to idle workers; return whether any was given."""
        given = False
        if self._engine.starting == 0:
            self._starting_since = time.monotonic()
        while not self._stopping:
            idle = self._engine.idle_machines
            found = self._next(self._machines.usable(idle))
            if found is None and idle and not self._engine.running and not self._may_grow():
                # No better machine will come: take the ones that failed before.
                found = self._next(set(idle), again=True)
            if found is None:
                break
            task, machines = found
            self._by_name[task.shot].running += 1
            self._engine.submit(task, machines)
            given = True
        return given

    def _may_grow(self) -> bool:
        """Return whether workers are being started and may soon take work."""
        waited = time.monotonic() - self._starting_since
        return self._engine.starting > 0 and waited < _START_SECONDS

    def _next(self, machines: set[str], *, again: bool = False) -> tuple[Task, set[str]] | None:
        """Return a unit of the shots begun first, or the beginning of the next shot.

        It comes with the machines allowed to do it: those of `machines` without a failure at it,
        or with `again` all of them.
        """
        if not machines:
            return None
        return self._next_unit(machines, again) or self._next_shot(machines, again)

    def _next_unit(self, machines: set[str], again: bool) -> tuple[Task, set[str]] | None:
        # Shots in the order of their beginning: the first ones are completed first.
        for run in self._active:
            unit = None if run.schedule is None else run.schedule.take()
            if unit is None or run.schedule is None:
                continue
            allowed = machines if again else self._allowed(run, unit.name, machines)
            if allowed:
                return self._task(run, unit.name), allowed
            # Back to the queue: another machine may take it.
            run.schedule.requeue(unit)
        return None

    def _next_shot(self, machines: set[str], again: bool) -> tuple[Task, set[str]] | None:
        for run in list(self._waiting):
            allowed = machines if again else self._allowed(run, BEGIN, machines)
            if not allowed:
                continue
            self._waiting.remove(run)
            task = self._begin(run)
            if task is not None:
                return task, allowed
        return None

    def _allowed(self, run: ShotRun, unit: str, machines: set[str]) -> set[str]:
        return machines - set(self._machines.failed_at((run.name, unit)))

    def _begin(self, run: ShotRun) -> Task | None:
        run.state, run.began = "running", run.began or time.monotonic()
        run.tries += 1
        self._active.append(run)
        self._watch(run)
        try:
            if run.shot.problem:
                raise run.shot.problem_kind(run.shot.problem)
            self._claim_outputs(run)
        except (VidmatteError, OSError) as error:
            self._fail(run, _failed(error), BEGIN)
            self._watch(run)
            return None
        return self._task(run, BEGIN)

    def _claim_outputs(self, run: ShotRun) -> None:
        """Let a shot replace outputs of its own earlier try.

        That try was killed after its outputs were in place, or could not send them.
        """
        request = run.shot.request
        places = [*(str(spec.path) for spec in request.outputs.specs), *run.shot.uris.values()]
        if not request.options.overwrite and not existing_outputs(request, run.shot.uris):
            self._results.add({"shot": run.name, "state": "begun", "outputs": places})
            return
        # Only outputs that this very batch began may be replaced without --overwrite.
        last = self._results.last(run.name)
        again = request.options.resume or run.crash_count or (run.tries > 1 and run.shot.uris)
        if again and last.get("state") == "begun" and last.get("outputs") == places:
            run.claim_outputs()

    def _task(self, run: ShotRun, unit: str) -> Task:
        begins = unit == BEGIN
        return Task(
            run.name,
            unit,
            run.shot.request,
            plan=run.plan,
            threads=run.threads,
            key=run.key,
            file_fingerprints=self._results.file_fingerprints(run.name) if begins else {},
            finished=self._results.completed(run.name) if begins else None,
            uris=run.shot.uris,
            sheet=None if self._sheets is None else str(self._sheets / f"{run.name}.jpg"),
        )

    def _count(self, event: Progress) -> None:
        run = self._by_name[event.shot]
        run.frames += event.count
        self._watch(run)

    def _take(self, event: TaskDone) -> None:
        run, outcome = self._by_name[event.task.shot], event.outcome
        run.running -= 1
        work = (run.name, event.task.unit)
        if outcome.kind == "failed":
            self._fail(run, outcome, event.task.unit, event.machine)
        else:
            for machine in self._machines.add_success(event.machine, work):
                self._note(
                    f"{machine} is set aside: it failed at shots that {event.machine} could do; "
                    f"check its mounts and disks"
                )
        if outcome.kind in ("planned", "done"):
            try:
                if outcome.kind == "planned":
                    self._plan(run, outcome)
                else:
                    self._record_done(run, Unit.parse(event.task.unit), outcome)
            except (VidmatteError, OSError) as error:
                self._fail(run, _failed(error), event.task.unit)
        elif outcome.kind != "failed":
            self._complete(run, outcome)
        if run.is_over and not run.running:
            self._let_go(run)
        self._watch(run)

    def _plan(self, run: ShotRun, outcome: Outcome) -> None:
        assert outcome.plan is not None
        run.plan = outcome.plan
        run.key = outcome.key
        run.file_fingerprints = outcome.file_fingerprints
        run.threads = int(outcome.record["threads"])
        journal = journal_of(run.shot.request)
        run.lock.enter_context(journal.lock())
        run.journal = journal
        run.done = set(journal.done())
        # One worker renders strictly behind propagation; more of them need a lead.
        run.schedule = Schedule(run.plan, run.done, ahead=max(1, _AHEAD * (self._engine.size - 1)))
        # Propagated frames count as work, too.
        run.total = run.plan.frames + run.plan.propagated_frames
        run.frames = sum(run.plan.size(unit) for unit in map(Unit.parse, run.done))

    def _record_done(self, run: ShotRun, unit: Unit, outcome: Outcome) -> None:
        """Write into the journal that a unit is done, also if its shot failed meanwhile."""
        assert run.journal is not None
        run.journal.add(outcome.record)
        run.done.add(unit.name)
        if run.schedule is not None and run.plan is not None:
            run.schedule.finish(unit)
            delete_chunks(run.plan, run.journal.folder, unit, run.done)

    def _complete(self, run: ShotRun, outcome: Outcome) -> None:
        run.state = "done" if outcome.kind == "completed" else "up to date"
        run.seconds = time.monotonic() - run.began
        known = self._results.completed(run.name) if outcome.kind == "up to date" else None
        run.record = {**(known or outcome.record)}
        run.frames = run.total = int(run.record.get("frames", 0))
        if outcome.kind == "completed":
            file_fingerprints = {
                path: list(each)
                for path, each in (outcome.file_fingerprints or run.file_fingerprints).items()
            }
            facts = {
                "shot": run.name,
                "state": "done",
                "key": outcome.key,
                "file_fingerprints": file_fingerprints,
                "tries": run.tries,
            }
            rate = {"seconds": round(run.seconds, 3), "fps": round(run.frames / run.seconds, 3)}
            run.record = {**facts, **outcome.record, **rate}
            self._results.add(run.record)
        self._active.remove(run)
        run.schedule = None

    def _fail(self, run: ShotRun, outcome: Outcome, unit: str, machine: str = "") -> None:
        """Retry a failed unit, on another machine if there is one, or give up its shot."""
        if run.is_over:
            return
        # A stopped batch retries nothing.
        if outcome.retryable and not self._stopping:
            if machine and self._try_elsewhere(run, unit, machine):
                return
            if run.tries <= self._retries:
                run.tries += 1
                # A retry is a fresh start: all machines may try again.
                self._machines.close((run.name, unit))
                self._requeue(run, unit)
                return
        run.state = "failed"
        run.reason = self._reason(run, outcome, unit, machine)
        run.error = outcome.error
        run.seconds = time.monotonic() - run.began
        run.schedule = None
        self._active.remove(run)
        self._machines.close((run.name, unit))
        run.record = {
            "shot": run.name,
            "state": "failed",
            "error": outcome.error,
            "reason": run.reason,
            "unit": unit,
            "tries": run.tries,
        }
        if outcome.trace:
            run.record = {**run.record, "trace": outcome.trace}
        self._results.add(run.record)

    def _try_elsewhere(self, run: ShotRun, unit: str, machine: str) -> bool:
        """Give a unit to a second machine; not a retry, as the first one may be to blame."""
        work = (run.name, unit)
        before = self._machines.failed_at(work)
        others = set(self._engine.machines) - {machine, *before}
        # A node without its mounts may be the first one that is up.
        if before or not (others or self._may_grow()):
            return False
        self._machines.add_failure(machine, work)
        self._requeue(run, unit, soon=True)
        return True

    def _requeue(self, run: ShotRun, unit: str, *, soon: bool = False) -> None:
        if unit == BEGIN:
            self._active.remove(run)
            run.tries -= 1  # `_begin` counts it
            if soon:
                self._waiting.appendleft(run)
            else:
                self._waiting.append(run)
        elif run.schedule is not None:
            run.schedule.requeue(Unit.parse(unit))

    def _reason(self, run: ShotRun, outcome: Outcome, unit: str, machine: str) -> str:
        """Return the reason of a shot's failure, and its machines."""
        if not machine:
            return outcome.reason
        failed = [*self._machines.failed_at((run.name, unit)), machine]
        return f"{outcome.reason} (on {' and '.join(dict.fromkeys(failed))})"

    def _on_worker_lost(self, event: WorkerLost) -> None:
        """Give the task of a lost worker to another one."""
        run = self._by_name[event.task.shot]
        run.running -= 1
        unit = event.task.unit
        run.crash_count[unit] += 1
        # The unit is lost several times on its own: likely too large for the memory.
        if run.crash_count[unit] > _MAX_CRASHES:
            reason = (
                f"{event.reason}, {run.crash_count[unit]} times; it may take more memory than "
                f"there is"
            )
            self._fail(run, Outcome("failed", reason=reason, error="Lost"), unit)
        elif unit == BEGIN or (
            unit == JOIN.name and run.journal is not None and not run.journal.exists
        ):
            # A worker that was lost after the last step has left outputs without a result.
            if unit != BEGIN:
                run.claim_outputs()
            run.schedule = None
            run.state = "waiting"
            run.lock.close()
            run.tries -= 1
            self._active.remove(run)
            self._waiting.appendleft(run)
        elif run.schedule is not None:
            run.schedule.requeue(Unit.parse(event.task.unit))
        self._watch(run)

    def _let_go(self, run: ShotRun) -> None:
        if run.journal is not None:
            with suppress(VidmatteError, OSError):
                run.journal.remove_if_empty()  # while it is locked: another run may begin after
        run.journal = None
        run.lock.close()
        remove_staging_folders(run.shot.uris)  # the lock was in one of them


def _failed(error: Exception) -> Outcome:
    return Outcome("failed", reason=str(error), error=type(error).__name__)
