"""A watched folder: clips that are put there with their prompts are rendered, and move on.

    FOLDER/clip.mp4, clip.prompts.json      waiting, or being rendered
    FOLDER/done/clip/                       the clip, its prompts, its outputs and result.json
    FOLDER/failed/clip/                     the clip, its prompts and result.json with the reason

Everything about a clip lies in a folder of its own, so that names may come again: clip, clip-2.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from vidmatte.batch.manifest import MOVIES, read_shot
from vidmatte.batch.results import Results
from vidmatte.batch.run import ShotRun
from vidmatte.config import Config
from vidmatte.errors import OptionError, ReadError, VidmatteError, WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.media.lock import exclusive
from vidmatte.read.sequence import SequenceVideo
from vidmatte.service.render import CancelledError, Renderer
from vidmatte.web.store import masks_of, prompt_file_of

DONE, FAILED, RESULT = "done", "failed", "result.json"
RESULTS = "watch.results.jsonl"
_LARGEST = 64 << 20
"""Bytes of a prompt file that is looked into."""

Facts = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Marked:
    """A clip with its prompts."""

    clip: Path
    prompts: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The clip, its prompts, and the folder of its masks if there is one."""
        masks = masks_of(self.prompts)
        return (self.clip, self.prompts, *((masks,) if masks.is_dir() else ()))

    def facts(self) -> Facts:
        """Return sizes and times of all files, to see whether they still change."""
        found = []
        for path in self.files:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                facts = file.stat()
                found.append((str(file), facts.st_size, facts.st_mtime_ns))
        return tuple(found)


@dataclass(frozen=True)
class Ended:
    """A clip that moved on."""

    name: str
    folder: Path
    """Where everything about it is now."""
    record: Mapping[str, Any]
    """Its result, see `schemas.result_schema`."""

    @property
    def is_done(self) -> bool:
        """Whether it was rendered."""
        return bool(self.record.get("state") == "done")


class Watch:
    """Watches a folder, and renders what is put there. Several may watch one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, Any],
        devices: Sequence[str],
        config: Config | None = None,
        settle: float = 5.0,
        interval: float = 2.0,
        retries: int = 0,
        on_begin: Callable[[Marked], None] = lambda marked: None,
        on_end: Callable[[Ended], None] = lambda ended: None,
        on_waiting: Callable[[Path], None] = lambda clip: None,
    ) -> None:
        """Take the choices; nothing is looked at yet.

        Args:
            folder: The folder.
            settings: Keys of a manifest for all clips. Outputs are relative to the folder of each
                clip in `done`.
            devices: Names of devices; a clip is rendered on each at the same time.
            config: Defaults of a studio.
            settle: Seconds for which nothing may have changed before a clip is taken.
            interval: Seconds between two looks.
            retries: Repetitions after errors that may pass.
            on_begin: Called when a clip is taken.
            on_end: Called when a clip has moved on.
            on_waiting: Called once for each clip that waits for marks.

        Raises:
            OptionError: If the folder does not exist, or a setting is not valid.
            WriteError: If the folder cannot be written.
        """
        if not folder.is_dir():
            raise OptionError(f"{folder}: is no folder; create it, or name another one to watch")
        self._folder = folder.absolute()
        self._settings = settings
        self._config = config
        self._settle, self._interval, self._retries = settle, interval, retries
        self._on_begin, self._on_end, self._on_waiting = on_begin, on_end, on_waiting
        for name in (DONE, FAILED):
            self._create(self._folder / name)
        # Wrong settings are told now, and not by every clip.
        read_shot(
            {"model": "none", "matte": "m.png", **settings, "input": "clip.mov", "name": "clip"},
            where=Path("--set"),
            folder=self._folder,
        )
        self._results = Results(self._folder / RESULTS)
        self._stopped = threading.Event()
        self._seen: dict[Path, tuple[Facts, float]] = {}
        self._told: set[Path] = set()
        self._devices = devices
        self._idle = [Renderer(device) for device in devices]
        self._busy: dict[Future[Ended | None], tuple[Path, Renderer]] = {}

    def _create(self, folder: Path) -> None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(
                f"{folder}: cannot be created ({error.strerror}); check the rights of "
                f"{folder.parent}"
            ) from error

    def run(self, *, once: bool = False) -> list[Ended]:
        """Watch until interrupted, or with `once` until nothing is left that can be rendered.

        A clip that is being rendered when this is interrupted stays where it is; finished segments
        of it are used the next time.

        Returns:
            The clips that moved on, in the order in which they did.
        """
        ended: list[Ended] = []
        with ThreadPoolExecutor(len(self._devices), thread_name_prefix="vidmatte-watch") as pool:
            try:
                while True:
                    waiting = self._give_out(pool)
                    ended += self._collect()
                    if once and not self._busy and not waiting:
                        return ended
            finally:
                self._stopped.set()
                for future, (_, renderer) in self._busy.items():
                    wait([future])
                    renderer.close()
                for renderer in self._idle:
                    renderer.close()

    def _give_out(self, pool: ThreadPoolExecutor) -> bool:
        """Give settled clips to idle devices; return whether others will be settled soon."""
        waiting = False
        taken = {clip for clip, _ in self._busy.values()}
        for marked in self._marked():
            if marked.clip in taken:
                continue
            if not self._is_settled(marked):
                waiting = True
            elif self._idle:
                renderer = self._idle.pop()
                future = pool.submit(self._take, marked, renderer)
                self._busy[future] = (marked.clip, renderer)
            else:
                waiting = True
        return waiting

    def _collect(self) -> list[Ended]:
        """Wait for the next look, or for a clip that ends before."""
        if not self._busy:
            time.sleep(self._interval)
            return []
        done, _ = wait(self._busy, timeout=self._interval, return_when=FIRST_COMPLETED)
        found = []
        for future in done:
            _, renderer = self._busy.pop(future)
            self._idle.append(renderer)
            ended = future.result()
            if ended is not None:
                found.append(ended)
                self._on_end(ended)
        return found

    def _marked(self) -> Iterator[Marked]:
        """Yield the clips with marks, oldest first: movies, and folders of numbered images."""
        found = []
        for path in self._folder.iterdir():
            with suppress(OSError):  # it was just moved away
                if _is_clip(path):
                    found.append((path.stat().st_mtime_ns, path))
        self._seen = {path: seen for path, seen in self._seen.items() if path.exists()}
        for _, path in sorted(found):
            prompts = prompt_file_of(path, path.parent)
            if prompts.is_file() and _has_marks(prompts):
                yield Marked(path, prompts)
            elif path not in self._told:
                self._told.add(path)
                self._on_waiting(path)

    def _is_settled(self, marked: Marked) -> bool:
        """Return whether nothing of a clip has changed for some seconds."""
        try:
            facts = marked.facts()
        except OSError:  # moved away meanwhile
            return False
        now = time.monotonic()
        before, since = self._seen.get(marked.clip, (None, now))
        if facts != before:
            self._seen[marked.clip] = (facts, now)
            return self._settle == 0
        return now - since >= self._settle

    def _take(self, marked: Marked, renderer: Renderer) -> Ended | None:
        """Render a clip and move it on; None if another watcher has it, or this one stops."""
        try:
            with exclusive(marked.clip, "another watcher renders it"):
                # It may have been moved on between the look and the lock.
                if not all(path.exists() for path in marked.files):
                    return None
                self._on_begin(marked)
                # Caught here, so that the file of the lock goes, too.
                with suppress(CancelledError):
                    return self._rendered(marked, renderer)
                return None
        except OptionError:
            # Somebody else holds the lock: a later look sees what became of it.
            return None

    def _rendered(self, marked: Marked, renderer: Renderer) -> Ended:
        folder = _target(self._folder / DONE, marked.clip)
        record: Mapping[str, Any]
        try:
            self._create(folder)
            entry = {**self._settings, "name": marked.clip.stem, "input": str(marked.clip)}
            shot = read_shot(
                {**entry, "prompts": str(marked.prompts)},
                where=marked.clip,
                folder=folder,
                overwrite=True,
                config=self._config,
            )
            run = renderer.render(
                shot, self._results, cancelled=self._stopped, retries=self._retries
            )
            record = _record_of(run)
        except (VidmatteError, OSError) as error:
            record = {
                "shot": marked.clip.stem,
                "state": "failed",
                "error": type(error).__name__,
                "reason": str(error),
                "unit": "begin",
                "tries": 1,
            }
        return self._moved(marked, folder, record)

    def _moved(self, marked: Marked, folder: Path, record: Mapping[str, Any]) -> Ended:
        """Move a clip and its prompts to where everything about it is."""
        if record["state"] != "done":
            with suppress(OSError):  # it holds something that was not ours
                folder.rmdir()
            folder = _target(self._folder / FAILED, marked.clip)
            self._create(folder)
        # Masks are named relative to the prompts, so that they stay right.
        for path in (*marked.files[1:], marked.clip):
            os.replace(path, folder / path.name)
        atomic_write(folder / RESULT, json.dumps(record, indent=2) + "\n")
        return Ended(marked.clip.name, folder, record)


def _is_clip(path: Path) -> bool:
    if path.name.startswith(".") or path.name in (DONE, FAILED):
        return False
    if path.is_file():
        return path.suffix.lower() in MOVIES
    try:
        return path.is_dir() and SequenceVideo(path).count_frames() > 0
    except (ReadError, OptionError):
        return False


def _has_marks(path: Path) -> bool:
    """Return whether a prompt file marks anything: the picker saves files without marks, too.

    A file that is wrong counts as marked: rendering tells what is wrong with it.
    """
    try:
        if path.stat().st_size > _LARGEST:
            return True
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return True
    return not (isinstance(document, dict) and document.get("objects") == [])


def _target(folder: Path, clip: Path) -> Path:
    """Return the folder of a clip: a new one, or that of a render which was interrupted."""
    for number in count(1):
        path = folder / f"{clip.stem}{'' if number == 1 else f'-{number}'}"
        if not os.path.lexists(path) or (path.is_dir() and not (path / RESULT).exists()):
            return path
    raise AssertionError  # the numbers do not end


def _record_of(run: ShotRun) -> Mapping[str, Any]:
    """Return the result of a shot that ended."""
    record = dict(run.record)
    # A shot that was rendered before with the same everything: its outputs are there.
    if run.state == "up to date":
        record["state"] = "done"
    return record
