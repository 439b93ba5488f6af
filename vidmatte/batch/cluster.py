"""Workers of a Ray cluster: actors with their models kept loaded (extra `ray`).

Ray places them. Tasks and outcomes are small; frames go from the workers to shared storage.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from vidmatte import __version__
from vidmatte.batch.engine import Event, TaskDone, WorkerLost
from vidmatte.batch.task import BEGIN, Outcome, Progress, Task
from vidmatte.batch.worker import Worker
from vidmatte.errors import MissingExtraError, OptionError, VidmatteError
from vidmatte.model.weights import PARTS, WEIGHTS
from vidmatte.pipeline.segments.plan import Unit

_ANSWER_SECONDS = 10.0
"""Limit for an answer from the address of a cluster."""
_JOIN_SECONDS = 60.0
"""Limit for joining the cluster."""
_MAX_FAILED_STARTS = 3
"""Per worker; more are taken for a broken installation."""


class ClusterWorker:
    """The actor."""

    def __init__(self) -> None:
        self._worker = Worker()

    def facts(self) -> dict[str, str]:
        """Return versions and weights (equal on all workers), and the machine of this one."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return {"machine": socket.gethostname(), "node": node, **own_facts()}

    def run(self, task: Task) -> Outcome:
        """Do a task."""
        return self._worker.run(task)


def own_facts() -> dict[str, str]:
    """Return the versions and weights of this process."""
    # Sixteen digits are enough to tell weights apart, and short enough for messages.
    weights = {name: part.sha256[:16] for name, part in {**WEIGHTS, **PARTS}.items()}
    return {
        "vidmatte": __version__,
        "torch": torch.__version__,
        **{f"weights {name!r}": digest for name, digest in weights.items()},
    }


def refuse_other(facts: Mapping[str, str]) -> None:
    """Raise VidmatteError if versions or weights of a worker differ from this process."""
    for name, here in own_facts().items():
        if facts.get(name) != here:
            raise VidmatteError(
                f"the worker on {facts['machine']} has {name} {facts.get(name)}, and this machine "
                f"{here}; its frames would not fit the others: install the same version there"
            )


@dataclass
class _RayWorker:
    """An actor and its task."""

    handle: Any
    doing: Any
    """Ray's reference of its answer: to the question for facts, or to a task. None if idle."""
    machine: str | None = None
    """Its name, see `RayEngine.machines`; None until it has answered."""
    task: Task | None = None
    last_shot: str = ""


class RayEngine:
    """Actors of a Ray cluster, see `engine.Engine`."""

    def __init__(
        self,
        address: str | None,
        workers: int | None = None,
        *,
        threads: int = 1,
        gpus: float | None = None,
    ) -> None:
        """`gpus` is the share of a GPU for each worker; None is 1 if the cluster has GPUs."""
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("--engine ray", "ray") from error
        self._ray: Any = ray
        self._address = address
        self._asked = workers
        self._threads = threads
        self._gpus = gpus
        self._members: list[_RayWorker] = []
        self._count = 0
        self._failed_starts = 0
        self._options: dict[str, Any] = {}

    @property
    def size(self) -> int:
        """Return how many workers there are."""
        return self._count

    @property
    def running(self) -> int:
        """Return how many tasks are being done."""
        return sum(member.task is not None for member in self._members)

    @property
    def starting(self) -> int:
        """Return how many workers have not answered yet."""
        return sum(member.machine is None for member in self._members)

    @property
    def idle_machines(self) -> Sequence[str]:
        """Return the machine of each idle worker."""
        return [member.machine for member in self._members if _is_idle(member) and member.machine]

    @property
    def machines(self) -> Collection[str]:
        """Return all machines with a worker that has answered.

        They are called by their host names, and by their nodes too if nodes share a host.
        """
        return {member.machine for member in self._members if member.machine is not None}

    def submit(self, task: Task, machines: Collection[str]) -> None:
        """Give a task to an idle worker on one of some machines.

        A worker with the shot already open is preferred.
        """
        free = [member for member in self._members if _is_idle(member)]
        allowed = [member for member in free if member.machine in machines]
        # min prefers False: a worker that has the shot open.
        best = min(allowed, key=lambda member: member.last_shot != task.shot)
        best.task = task
        best.last_shot = task.shot
        best.doing = best.handle.run.remote(task)

    def poll(self, seconds: float) -> Sequence[Event]:
        """Return the next events as soon as there are any, or nothing after some seconds."""
        # The first answer of a worker is its facts, then outcomes of tasks.
        asked = {member.doing: member for member in self._members if member.doing is not None}
        if not asked:
            return []
        ready, _ = self._ray.wait(list(asked), num_returns=1, timeout=seconds)
        return [event for reference in ready for event in self._receive(asked[reference])]

    def _receive(self, member: _RayWorker) -> list[Event]:
        try:
            found = self._ray.get(member.doing)
        except self._ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            task = member.task
            # Counted before it is replaced: an installation that cannot start would be restarted
            # forever.
            self._check_startup(member, reason)
            self._members[self._members.index(member)] = self._start()
            where = f" on {member.machine}" if member.machine else ""
            lost = f"its worker{where} was lost ({reason})"
            return [] if task is None else [WorkerLost(task, lost)]
        member.doing = None
        if member.machine is None:
            refuse_other(found)
            member.machine = self._name_of(found)
            self._failed_starts = 0
            return []
        task = member.task
        member.task = None
        assert task is not None  # it was asked for its facts before, and since then only for tasks
        frames = (
            0 if task.plan is None or task.unit == BEGIN else task.plan.size(Unit.parse(task.unit))
        )
        # Ray reports no progress in between, so all frames count at the end.
        done = [Progress(task.shot, frames)] if frames and found.kind == "done" else []
        return [*done, TaskDone(task, found, member.machine)]

    def _name_of(self, facts: Mapping[str, str]) -> str:
        """Return the name of a worker's machine: its host, and its node if nodes share a host."""
        host = facts["machine"]
        nodes = {
            node["NodeID"] for node in self._ray.nodes() if node["NodeManagerHostname"] == host
        }
        # Several nodes on one host, as in tests, are told apart.
        return host if len(nodes) < 2 else f"{host} (node {facts['node'][:8]})"

    def _check_startup(self, member: _RayWorker, reason: str) -> None:
        """Raise VidmatteError if one worker after the other ends before it has answered."""
        self._failed_starts += member.machine is None
        if self._failed_starts > _MAX_FAILED_STARTS * self._count:
            raise VidmatteError(
                f"the workers of the Ray cluster end before they can do anything ({reason}); check "
                f"that vidmatte is installed on all of its machines, and 'ray status'"
            )

    def _start(self) -> _RayWorker:
        # The facts are asked for at once; until they arrive the worker takes no task.
        handle: Any = self._ray.remote(ClusterWorker).options(**self._options).remote()
        return _RayWorker(handle, handle.facts.remote())

    def __enter__(self) -> RayEngine:
        self._join()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        share = self._share_of_gpu(nodes)
        # One core more than the network uses, for decoding and encoding.
        cores = min(self._threads + 1.0, max(node.get("CPU", 0.0) for node in nodes))
        # A lost worker is replaced here, under our own count of failures.
        self._options = {"num_cpus": cores, "num_gpus": share, "max_restarts": 0}
        room = sum(_room(node, cores, share) for node in nodes)
        if not room:
            raise VidmatteError(
                f"the Ray cluster has no machine with {cores:g} cores and {share:g} GPUs; ask for "
                f"less with --threads and --gpus-per-worker"
            )
        self._count = min(room, self._asked or room)
        self._members = [self._start() for _ in range(self._count)]
        return self

    def _share_of_gpu(self, nodes: Sequence[Mapping[str, float]]) -> float:
        if self._gpus is not None:
            if self._gpus > 1 and self._gpus != int(self._gpus):
                raise OptionError(
                    f"{self._gpus:g} GPUs for a worker are not valid: give a share of one, or a "
                    f"whole number"
                )
            return self._gpus
        return 1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0

    def _join(self) -> None:
        """Connect to the cluster. Raises VidmatteError if there is none, or it does not answer."""
        if self._address not in (None, "auto", "local"):
            _ping(str(self._address))
        # Workers report errors in their outcomes; Ray's own logs are for the cluster's owner.
        # Otherwise Ray would hide GPUs from workers that claim none.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._address is None:
            # Ray would give its workers a niceness of 15.
            os.environ.setdefault("RAY_worker_niceness", str(_niceness()))
        # Without an address Ray would join any cluster that it finds on this machine.
        choices = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "address": self._address or "local",
        }
        if self._address is None:
            choices["include_dashboard"] = False
        failed: list[BaseException] = []

        def join() -> None:
            try:
                self._ray.init(**choices)
            except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
                failed.append(error)

        # A cluster that Ray starts ends with the thread that started it; one that it joins does
        # not.
        thread = threading.Thread(target=join, name="vidmatte-join-ray", daemon=True)
        if self._address is None:
            join()
        else:
            thread.start()
            thread.join(_JOIN_SECONDS)
        if thread.is_alive() or failed:
            reason = (
                str(failed[0]).splitlines()[0] if failed else f"no answer in {_JOIN_SECONDS:.0f} s"
            )
            raise VidmatteError(
                f"no Ray cluster could be joined at {self._address or 'this machine'} ({reason}); "
                f"start one with 'ray start --head', and give its address"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self._members:
            self._ray.kill(member.handle)
        self._ray.shutdown()


def _is_idle(member: _RayWorker) -> bool:
    return member.machine is not None and member.task is None


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0


def _room(node: Mapping[str, float], cores: float, share: float) -> int:
    """Return how many workers a machine has room for."""
    # A tiny amount more, as 1 / 0.1 must give ten.
    by_gpu = int(node.get("GPU", 0.0) / share + 1e-9) if share else 1 << 30
    return min(int(node.get("CPU", 0.0) // cores), by_gpu) if cores else by_gpu


def _ping(address: str) -> None:
    """Raise VidmatteError if nothing answers at an address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise OptionError(
            f"Ray address {address!r} is not valid: write HOST:PORT, as 'ray start --head' prints "
            f"it, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise VidmatteError(
            f"the Ray cluster at {address} does not answer within {_ANSWER_SECONDS:.0f} s "
            f"({error}); check the address, and that the cluster runs ('ray status')"
        ) from error
