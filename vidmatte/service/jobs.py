"""The jobs of the HTTP service: each a folder, so that a restart finds them again.

DATA/ID/job.json        what was asked, and how far it is
DATA/ID/clip.mp4        what was uploaded
DATA/ID/prompts.json    and masks/, which it names
DATA/ID/output/         the files that were made
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vidmatte.batch.manifest import MOVIES, ShotRequest, read_shot
from vidmatte.config import Config
from vidmatte.errors import OptionError, PromptError, ReadError, VidmatteError, WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.model.catalogue import DESCRIPTIONS
from vidmatte.option_table import MANIFEST_KEYS
from vidmatte.pipeline.request import open_shot
from vidmatte.write import image_of, parse_output

State = Literal["new", "queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("new", "queued", "running")
OPTION_KEYS = (
    "extent",
    "object",
    "model",
    "settings",
    "precision",
    "quality",
    "working_size",
    "adapt_steps",
    "mask_edge",
    "mask_fit",
    "smooth",
    "clip_black",
    "clip_white",
    "remove_dots",
    "fill_holes",
    "grow",
    "feather",
    "invert",
    "region",
    "start",
    "end",
    "deinterlace",
    "allow_truncated",
    "stream",
    "on_damage",
    "foreground",
    "despill",
    "premultiplied",
    "bit_depth",
    "start_number",
    "segment_frames",
)
"""Options that a client may set: none of them names a file or a device of this machine."""
ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[\w][\w .()+-]{0,120}")
_MASK = re.compile(r"[\w][\w.-]{0,120}\.(png|jpg|jpeg|tif|tiff|bmp)", re.IGNORECASE)
_JOB, _PROMPTS, _MASKS, _OUTPUT = "job.json", "prompts.json", "masks", "output"


@dataclass
class Job:
    """A clip to matte, and how far it is. Only `Jobs` changes it."""

    id: str
    name: str
    """Name of the clip as the client calls it."""
    created: float
    """Seconds since 1970."""
    options: Mapping[str, Any]
    output: Sequence[str]
    alpha: Sequence[str]
    state: State = "new"
    error: str = ""
    frames: int = 0
    """Frames that are done; of a clip in segments, each pass counts."""
    total: int | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    """The result of a job that is done, see `schemas.result_schema`."""


class Jobs:
    """All jobs of a data folder. Thread-safe."""

    def __init__(self, folder: Path, *, limit: int = 100, config: Config | None = None) -> None:
        """Load the jobs of a folder, which is created if it is missing.

        Jobs that were being rendered when the service ended are queued again.

        Args:
            folder: The data folder.
            limit: Largest number of jobs that are not finished.
            config: Defaults of a studio.

        Raises:
            WriteError: If the folder cannot be written.
        """
        self.folder = folder.absolute()
        self._limit = limit
        self._config = config
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        """Notified when a job is queued."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(
                f"{self.folder}: cannot be created ({error.strerror}); choose another --data"
            ) from error
        self._jobs: dict[str, Job] = {}
        for job in sorted(self._load(), key=lambda job: job.created):
            if job.state == "running":
                job.state, job.frames = "queued", 0
            self._jobs[job.id] = job

    def _load(self) -> Iterator[Job]:
        for place in self.folder.iterdir():
            if not ID.fullmatch(place.name):
                continue
            try:
                yield Job(**json.loads((place / _JOB).read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                # A job that was being created or removed: nobody knows its address.
                shutil.rmtree(place, ignore_errors=True)

    def all(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def get(self, job_id: str) -> Job | None:
        """Return a job, None if there is none."""
        return self._jobs.get(job_id)

    def is_full(self) -> bool:
        """Return whether no further job is taken."""
        with self._lock:
            waiting = sum(job.state in UNFINISHED for job in self._jobs.values())
        return waiting >= self._limit

    def create(
        self,
        name: str,
        prompts: Mapping[str, Any],
        *,
        options: Mapping[str, Any],
        output: Sequence[str],
        alpha: Sequence[str],
    ) -> Job:
        """Return a new job that waits for its clip.

        Args:
            name: File name of the clip; its extension says what it is.
            prompts: What a prompt file holds. Masks are named "masks/NAME.png" in it.
            options: Keys of `OPTION_KEYS`.
            output: File names of colour with alpha, with format options.
            alpha: File names of alpha alone.

        Raises:
            OptionError: If an option, a name or an output is not valid.
            PromptError: If the prompts are not.
        """
        _check_name(name)
        _check_options(options)
        for path in output:
            _check_output(path, alpha_only=False)
        for path in alpha:
            _check_output(path, alpha_only=True)
        job = Job(secrets.token_hex(8), name, time.time(), dict(options), output, alpha)
        place = self.folder / job.id
        try:
            (place / _MASKS).mkdir(parents=True)
            (place / _OUTPUT).mkdir()
            atomic_write(place / _PROMPTS, json.dumps(prompts))
            shot = self.shot(job)
            if shot.problem:
                raise PromptError(shot.problem)
            self._save(job)
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise WriteError(
                f"{place}: cannot be written ({error.strerror}); check the free space of the server"
            ) from error
        except VidmatteError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise type(error)(self.plain(job, str(error))) from error
        with self._lock:
            self._jobs[job.id] = job
        return job

    def plain(self, job: Job, text: str) -> str:
        """Return a message without paths of the server."""
        place = str(self.folder / job.id)
        return text.replace(f"{place}/", "").replace(place, "the folder of the job")

    def shot(self, job: Job) -> ShotRequest:
        """Return the shot of a job.

        Raises:
            OptionError: If something of it is not valid, or leads out of its folder.
        """
        place = self.folder / job.id
        entry = {
            **job.options,
            "name": Path(job.name).stem,
            "input": self.clip_of(job).name,
            "prompts": _PROMPTS,
        }
        for key, names in (("output", job.output), ("alpha", job.alpha)):
            if names:
                entry[key] = [f"{_OUTPUT}/{name}" for name in names]
        if not job.output and not job.alpha:
            entry |= {
                "output": [f"{_OUTPUT}/{{shot}}_matte.mov"],
                "alpha": [f"{_OUTPUT}/{{shot}}_alpha.mov"],
            }
        config = self._config
        found = read_shot(
            entry, where=Path(job.name), folder=place, root=place, overwrite=True, config=None
        )
        if config is None or config.path is None:
            return found
        # The studio's choices, without its outputs: the client names its own.
        chosen = {key: value for key, value in config.values.items() if key in OPTION_KEYS}
        return read_shot(
            {**chosen, **entry},
            where=Path(job.name),
            folder=place,
            root=place,
            overwrite=True,
            config=None,
        )

    def clip_of(self, job: Job) -> Path:
        """Return where the clip of a job is, or will be."""
        return self.folder / job.id / f"clip{Path(job.name).suffix.lower()}"

    def mask_of(self, job: Job, name: str) -> Path:
        """Return where a mask of a job is kept. Raises OptionError for a name that is not plain."""
        if not _MASK.fullmatch(name):
            raise OptionError(f"mask {name!r} is not valid: give the name of an image, as in a.png")
        return self.folder / job.id / _MASKS / name

    def submit(self, job: Job) -> None:
        """Check the uploaded clip with its prompts, and queue the job.

        Raises:
            VidmatteError: If it cannot be matted: the job has failed then.
        """
        try:
            with open_shot(self.shot(job).request) as shot:
                total = shot.expected
        except VidmatteError as error:
            message = self.plain(job, str(error))
            self.update(job, state="failed", error=message)
            raise ReadError(message) from error
        self.update(job, state="queued", total=total)

    def update(self, job: Job, **changes: Any) -> None:
        """Change fields of a job, and keep them on the disk."""
        with self._lock:
            for name, value in changes.items():
                setattr(job, name, value)
            if job.id in self._jobs:
                self._save(job)
            self.changed.notify_all()

    def take(self) -> Job | None:
        """Return the oldest queued job, now running; None if there is none."""
        with self._lock:
            for job in self._jobs.values():
                if job.state == "queued":
                    self.update(job, state="running", frames=0)
                    return job
        return None

    def remove(self, job: Job) -> None:
        """Forget a job that is not running, and delete its files."""
        with self._lock:
            self._jobs.pop(job.id, None)
        shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def files(self, job: Job) -> dict[str, Path]:
        """Return the outputs of a job that is done, by their names."""
        folder = self.folder / job.id / _OUTPUT
        if job.state != "done" or not folder.is_dir():
            return {}
        paths = sorted(folder.iterdir())
        return {path.name: path for path in paths if path.is_file() and path.name[0] != "."}

    def results_file(self, job: Job) -> Path:
        """Return the file for the outcomes of a job, a line for each try."""
        return self.folder / job.id / "results.jsonl"

    def as_json(self, job: Job) -> dict[str, Any]:
        """Return a job as clients see it."""
        files = self.files(job)
        return {
            "id": job.id,
            "name": job.name,
            "state": job.state,
            "created": job.created,
            "frames": job.frames,
            "total": job.total,
            "error": job.error,
            "summary": {key: value for key, value in job.summary.items() if key in _SHOWN},
            "files": [
                {
                    "name": name,
                    "bytes": path.stat().st_size,
                    "url": f"/jobs/{job.id}/files/{name}",
                }
                for name, path in files.items()
            ],
        }

    def _save(self, job: Job) -> None:
        atomic_write(self.folder / job.id / _JOB, json.dumps(asdict(job)))


_SHOWN = (
    "vidmatte",
    "frames",
    "first_frame",
    "reference_frames",
    "seconds",
    "fps",
    "model",
    "device",
    "precision",
    "confidence",
    "lowest",
    "truncated_at",
    "objects",
    "notes",
)
"""Keys of a result that say nothing about the server's disk."""


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or Path(name).suffix.lower() not in MOVIES:
        raise OptionError(
            f"name {name!r} is not valid: give the file name of a movie, without folders, that "
            f"ends in {', '.join(MOVIES)}"
        )


def _check_options(options: Mapping[str, Any]) -> None:
    import difflib

    for key in options:
        name = key.replace("-", "_")
        if name not in OPTION_KEYS:
            near = difflib.get_close_matches(name, OPTION_KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(OPTION_KEYS)}"
            known = "not for the service" if name in MANIFEST_KEYS else "not known"
            raise OptionError(f"the option {key!r} is {known}; {hint}")
    model = options.get("model", "compact")
    if model not in DESCRIPTIONS:
        raise OptionError(f"model {model!r} is not valid: choose from {', '.join(DESCRIPTIONS)}")


def _check_output(path: str, *, alpha_only: bool) -> None:
    if re.search(r"[/\\\x00]", path) or path.startswith((".", "-")) or "://" in path:
        raise OptionError(
            f"output {path!r} is not valid: give a file name without folders, as in shot.mov"
        )
    if image_of(parse_output(path, alpha_only=alpha_only).backdrop) is not None:
        raise OptionError(f"{path}: a background image is not for the service; use over=checker")
