"""The run of a batch: gives units to the workers of an engine, keeps journals and results, and never gives up early."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vidmatte.batch.engine import Engine, TaskDone, WorkerLost
from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.results import Results
from vidmatte.batch.task import BEGIN, Outcome, Progress, Task
from vidmatte.batch.upload import existing_outputs
from vidmatte.errors import PromptError, VidmatteError
from vidmatte.pipeline.segments.journal import Journal
from vidmatte.pipeline.segments.plan import JOIN, Plan, Schedule, Unit
from vidmatte.pipeline.segments.session import delete_chunks, journal_of

State = Literal["waiting", "running", "done", "up to date", "failed", "stopped"]
_MAX_CRASHES = 3
"""A unit whose worker is lost so often is given up: it may be what kills them."""
_WAIT_SECONDS = 0.2
_AHEAD = 2
"""Segments, for each worker, that following may be ahead of rendering."""


@dataclass
class ShotRun:
    """How a shot gets on."""

    shot: ShotRequest
    state: State = "waiting"
    reason: str = ""
    error: str = ""
    frames: int = 0
    """Those that a worker has gone through, followed and rendered."""
    total: int | None = None
    """Of those, where it is known."""
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
    """How often the worker of each unit was lost."""
    lock: ExitStack = field(default_factory=ExitStack)

    @property
    def name(self) -> str:
        """Of the shot."""
        return self.shot.name

    def claim_outputs(self) -> None:
        """What lies under its final names is of this shot, and may be replaced."""
        request = self.shot.request
        self.shot = replace(
            self.shot, request=replace(request, options=replace(request.options, overwrite=True))
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.state in ("done", "up to date", "failed", "stopped")


class BatchRun:
    """All shots of a batch. `stop()` lets what is running finish, and begins nothing more."""

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
        """`threads` are those of the processor for each worker; `watch` is told of every change of a shot."""
        self.shots = [ShotRun(shot, threads=threads) for shot in shots]
        self._by_name = {run.name: run for run in self.shots}
        self._engine, self._results, self._retries, self._sheets = engine, results, retries, sheets
        self._watch = watch or (lambda run: None)
        self._note = note or (lambda text: None)
        self._waiting = deque(self.shots)
        self._active: list[ShotRun] = []
        self._stopping = False

    def stop(self) -> None:
        """Give out nothing more; what the workers are at is finished."""
        self._stopping = True

    def run(self) -> list[ShotRun]:
        """Do all that can be done; returns how each shot ended."""
        try:
            while self._give_out() or self._busy:
                for event in self._engine.poll(_WAIT_SECONDS):
                    if isinstance(event, Progress):
                        self._count(event)
                    elif isinstance(event, WorkerLost):
                        self._on_worker_lost(event)
                    else:
                        self._take(event)
        finally:
            for run in self.shots:
                self._let_go(run)
                if not run.is_over:
                    run.state = "stopped"
                    self._watch(run)
        return self.shots

    @property
    def _busy(self) -> bool:
        return self._engine.idle < self._engine.size

    def _give_out(self) -> bool:
        """Give tasks to all idle workers; whether any was given."""
        given = False
        while self._engine.idle and not self._stopping:
            task = self._next()
            if task is None:
                break
            self._by_name[task.shot].running += 1
            self._engine.submit(task)
            given = True
        return given

    def _next(self) -> Task | None:
        """A unit of the shots that were begun first, or the beginning of the next one."""
        for run in self._active:
            unit = None if run.schedule is None else run.schedule.take()
            if unit is not None:
                return self._task(run, unit.name)
        if not self._waiting:
            return None
        run = self._waiting.popleft()
        while run.shot.problem:
            self._refuse(run)
            if not self._waiting:
                return None
            run = self._waiting.popleft()
        return self._begin(run)

    def _refuse(self, run: ShotRun) -> None:
        """A shot whose marks could not be read."""
        run.began = time.monotonic()
        self._active.append(run)
        self._fail(
            run, Outcome("failed", reason=run.shot.problem, error=PromptError.__name__), BEGIN
        )
        self._watch(run)

    def _begin(self, run: ShotRun) -> Task | None:
        run.state, run.began = "running", run.began or time.monotonic()
        run.tries += 1
        self._active.append(run)
        self._watch(run)
        try:
            self._claim_outputs(run)
        except (VidmatteError, OSError) as error:
            self._fail(run, _failed(error), BEGIN)
            self._watch(run)
            return self._next()
        return self._task(run, BEGIN)

    def _claim_outputs(self, run: ShotRun) -> None:
        """Let a shot replace what it left under its final names itself, when it was killed or could not send it."""
        request = run.shot.request
        places = [*(str(spec.path) for spec in request.outputs.specs), *run.shot.uris.values()]
        if not request.options.overwrite and not existing_outputs(request, run.shot.uris):
            self._results.add({"shot": run.name, "state": "begun", "outputs": places})
            return
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
        if outcome.kind == "failed":
            self._fail(run, outcome, event.task.unit)
        elif outcome.kind in ("planned", "done"):
            try:
                if outcome.kind == "planned":
                    self._plan(run, outcome)
                else:
                    self._record_done(run, Unit.parse(event.task.unit), outcome)
            except (VidmatteError, OSError) as error:
                self._fail(run, _failed(error), event.task.unit)
        else:
            self._complete(run, outcome)
        if run.is_over and not run.running:
            self._let_go(run)
        self._watch(run)

    def _plan(self, run: ShotRun, outcome: Outcome) -> None:
        assert outcome.plan is not None
        run.plan, run.key, run.file_fingerprints = (
            outcome.plan,
            outcome.key,
            outcome.file_fingerprints,
        )
        run.threads = int(outcome.record["threads"])
        journal = journal_of(run.shot.request)
        run.lock.enter_context(journal.lock())
        run.journal = journal
        run.done = set(journal.done())
        run.schedule = Schedule(run.plan, run.done, ahead=max(1, _AHEAD * (self._engine.size - 1)))
        followed = sum(
            pass_.last - pass_.first + 1 for passes in run.plan.passes for pass_ in passes
        )
        run.total = run.plan.frames + followed
        run.frames = sum(run.plan.size(unit) for unit in map(Unit.parse, run.done))

    def _record_done(self, run: ShotRun, unit: Unit, outcome: Outcome) -> None:
        """Write down that a unit is done. A shot that failed meanwhile keeps it for the next run."""
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

    def _fail(self, run: ShotRun, outcome: Outcome, unit: str) -> None:
        if run.is_over:
            return
        if outcome.retryable and run.tries <= self._retries and not self._stopping:
            run.tries += 1
            if unit == BEGIN:
                self._active.remove(run)
                run.tries -= 1
                self._waiting.append(run)
            elif run.schedule is not None:
                run.schedule.requeue(Unit.parse(unit))
            return
        run.state, run.reason, run.error = "failed", outcome.reason, outcome.error
        run.seconds = time.monotonic() - run.began
        run.schedule = None
        self._active.remove(run)
        run.record = {
            "shot": run.name, "state": "failed", "error": outcome.error, "reason": outcome.reason,
            "unit": unit, "tries": run.tries, **({"trace": outcome.trace} if outcome.trace else {}),
        }  # fmt: skip
        self._results.add(run.record)

    def _on_worker_lost(self, event: WorkerLost) -> None:
        """The worker of a task is gone: the task is given to another one."""
        run = self._by_name[event.task.shot]
        run.running -= 1
        unit = event.task.unit
        run.crash_count[unit] += 1
        if run.crash_count[unit] > _MAX_CRASHES:
            reason = f"{event.reason}, {run.crash_count[unit]} times; it may take more memory than there is"
            self._fail(run, Outcome("failed", reason=reason, error="Lost"), unit)
        elif unit == BEGIN or (
            unit == JOIN.name and run.journal is not None and not run.journal.exists
        ):
            # A worker that was lost behind the last step of all left outputs that nobody knows of.
            if unit != BEGIN:
                run.claim_outputs()
            run.schedule, run.state = None, "waiting"
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
                run.journal.remove_if_empty()  # while it is held: another run may begin there after
        run.journal = None
        run.lock.close()


def _failed(error: Exception) -> Outcome:
    return Outcome("failed", reason=str(error), error=type(error).__name__)
