"""One clip that is being marked: all that the page can ask for, without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidmatte.errors import OptionError, PromptError, ReadError, VidmatteError
from vidmatte.media.limits import check_size, header_size
from vidmatte.options import SUGGESTED_ADAPT_STEPS, MatteOptions
from vidmatte.pipeline.models import model_from_options
from vidmatte.pipeline.source import open_clip
from vidmatte.prompts.objects import clean_name
from vidmatte.read import parse_position
from vidmatte.report.summary import SUGGESTED_BELOW, Summary
from vidmatte.web.frame_cache import FrameCache
from vidmatte.web.outputs import command_of, default_outputs, describe, files_of, job_of
from vidmatte.web.preview import Preview
from vidmatte.web.project import Edit, History, Project, PromptedObject, edited, frame_of, with_mask
from vidmatte.web.result import Result, can_show
from vidmatte.web.run import Job, Run
from vidmatte.web.still import Still, Stills
from vidmatte.web.store import Store, prompt_file_of
from vidmatte.web.worker import Worker


@dataclass(frozen=True)
class PickerConfig:
    """The clip and options that the picker is opened with."""

    source: Path
    prompt_file: Path | None = None
    """None for the file beside the clip."""
    frame: int | str | None = None
    """Position of the frame that is shown first; None for the first one."""
    outputs: tuple[str, ...] = ()
    """Outputs with colour and alpha that are offered first."""
    alphas: tuple[str, ...] = ()
    options: MatteOptions = field(default_factory=MatteOptions)
    """Their in and out points apply to a new project."""


class Session:
    """The clip, its marks, and what is computed from them. Thread-safe; close it at the end.

    Raises VidmatteError for a clip, a model or a prompt file that cannot be used.
    """

    def __init__(self, config: PickerConfig, *, folder: Path | None = None) -> None:
        self.config = config
        self._folder = folder or Path()
        with ExitStack() as stack:
            # If a later step fails, what was opened is closed again.
            self._video = stack.enter_context(open_clip(config.source, config.options))
            model = model_from_options(config.options)
            self.frame_cache = FrameCache(self._video)
            stack.callback(self.frame_cache.close)
            self.clip_info = self.frame_cache.clip_info
            self.first_shown = self._index_of(config.frame)
            beside = prompt_file_of(config.source, self._folder.resolve())
            self.store = Store(config.prompt_file or beside, config.source)
            self._history = History(self._opened())
            self._selection = default_outputs(
                config.source, config.outputs, config.alphas, config.options, self._folder
            )
            # Outputs that cannot be written are refused now, not at every step of the page.
            project = self._history.project
            describe(self._selection, len(project.prompts))
            command_of(self._job(project), project)
            stack.pop_all()
        self._lock = threading.RLock()
        self._stills = Stills(model, self.frame_cache)
        self.preview = Preview(self._stills, self.frame_cache)
        self._is_previewing = False
        self._version = 0
        self.worker = Worker()
        self.run: Run | None = None
        self._completed: Summary | None = None
        self._ran: Project | None = None
        self._results: tuple[Run, list[Result]] | None = None
        self.ended = threading.Event()
        """Set when the page says that it is done."""
        self.frame_cache.prefetch_all(lambda: self.worker.is_busy or self._is_computing())

    def _index_of(self, position: int | str | None) -> int:
        """Return the index of a frame of the clip. Raises OptionError if there is none."""
        index = 0 if position is None else parse_position(position, self._video)
        if index >= self.clip_info.frames:
            raise self._video.no_frame(self._video.number_of(index))
        return index

    def _job(self, project: Project) -> Job:
        """Return the request for a run of a project with the present outputs."""
        return job_of(
            self.config.source,
            self.store.path,
            project,
            self._selection,
            self.config.options,
            self.clip_info.first_number,
        )

    def _opened(self) -> Project:
        project = self.store.load(self.clip_info, self._video)
        options = self.config.options
        if (project.start, project.end) != (None, None) or (options.start, options.end) == (
            None,
            None,
        ):
            return project
        ends = {
            name: None if text is None else parse_position(text, self._video)
            for name, text in (("start", options.start), ("end", options.end))
        }
        return edited(project, {"op": "set_range", **ends}, self.clip_info)

    @property
    def project(self) -> Project:
        """The present marks."""
        return self._history.project

    @property
    def summary(self) -> Summary | None:
        """Summary of the last complete run."""
        last = None if self.run is None else self.run.progress.summary
        return last or self._completed

    def edit(self, edit: Edit) -> None:
        """Change the marks, save them and update the preview. Raises PromptError, WriteError."""
        with self._lock:
            frame = edit.get("frame")
            self._put(
                edited(self.project, edit, self.clip_info),
                frame if type(frame) is int else self.first_shown,
            )

    def load_mask(self, number: int, frame: int, image: bytes) -> None:
        """Use an image as the mask of a frame. Raises PromptError if it does not fit."""
        size = header_size(image)
        try:
            if size is not None:
                check_size("the mask", *size)
        except ReadError as error:
            raise PromptError(str(error)) from error
        clip = self.clip_info
        info = self._video.info
        wanted = {(clip.width, clip.height), (info.width, info.height)}
        if size not in wanted:
            found = "no image that can be read" if size is None else f"{size[0]}x{size[1]}"
            raise PromptError(
                f"the mask is {found}, but the frame is {clip.width}x{clip.height}; make it from "
                f"that frame, without scaling or cropping, as PNG for instance"
            )
        with self._lock:
            frame_of({"frame": frame}, self.clip_info)
            self.project.object(number)
            path = self.store.put_mask(image, number, frame)
            project = with_mask(self.project, number, frame, path)
            try:
                # Decoded before it is kept: it may be damaged, or empty.
                self.frame_cache.reference(project.object(number).prompts[frame])
            except VidmatteError:
                self.store.tidy(self._history.all)
                raise
            self._put(project, frame)

    def undo(self, by: int) -> None:
        """Undo (-1) or redo (1) an edit."""
        with self._lock:
            self._history.step(by)
            self._changed(self.first_shown)

    def _put(self, project: Project, focus: int) -> None:
        self._history.push(project)
        self._changed(focus)

    def _changed(self, focus: int) -> None:
        self._version += 1
        self.store.save(self.project)
        if self._is_previewing:
            self.worker.work_on(self.preview.plan(self.project, focus))

    def still(self, number: int, frame: int) -> Future[Still] | None:
        """Return the matte of a marked frame, once computed; None for a frame without marks."""
        prompt = self.project.object(number).prompts.get(frame)
        if prompt is None:
            return None
        kept = self._stills.kept(prompt)
        if kept is None:
            return self.worker.submit(("still", number), lambda: self._stills.still(prompt))
        known: Future[Still] = Future()
        known.set_result(kept)
        return known

    def small_alpha(self, number: int, frame: int) -> bytes | None:
        """Return a small gray PNG of an object's matte in a frame.

        It is that of the run if the marks have not changed since, else of the preview.
        """
        run = self._current_run()
        name = clean_name(self.project.object(number).name)
        written = None if run is None else run.mattes.get((name, frame))
        return self.preview.alpha(number, frame) if written is None else written

    def curve(self) -> list[int]:
        """Return the confidence of each frame in hundredths, -1 if unknown: of run or preview."""
        values = self.preview.confidence()
        run = self._current_run()
        for frame, confidence in list(run.confidence.items()) if run is not None else ():
            values[frame] = round(100 * confidence)
        return values

    def _current_run(self) -> Run | None:
        """Return the run if the marks have not changed since."""
        return self.run if self._ran == self.project else None

    def show_preview(self, is_on: bool, focus: int) -> None:
        """Start or stop computing a preview. Raises OptionError if nothing is marked."""
        with self._lock:
            if is_on and not self.project.prompts:
                raise OptionError("nothing is marked yet: click on the object")
            self._is_previewing = is_on
            self.worker.work_on(self.preview.plan(self.project, focus) if is_on else None)

    def set_outputs(self, asked: Mapping[str, Any]) -> None:
        """Change which outputs will be written, and how. Raises OptionError."""
        with self._lock:
            self._selection = self._selection.with_page(asked)

    def start_run(self) -> None:
        """Start the run at full quality. Raises VidmatteError if it cannot start."""
        with self._lock:
            if self.run is not None and not self.run.progress.is_over:
                raise OptionError("a run is under way already: wait for it, or cancel it")
            if not self.project.prompts:
                raise OptionError("nothing is marked yet: click on the object")
            if not self._selection.chosen:
                raise OptionError("no output is chosen: choose at least one")
            job = self._job(self.project)
            files_of(job, self.project)
            self.store.save(self.project)
            self.show_preview(False, 0)
            if self.run is not None:
                self._completed = self.summary
                self.run.close()
            for result in self._results[1] if self._results is not None else ():
                result.close()
            self._results = None
            self.run = Run(job)
            self._ran = self.project

    def cancel_run(self) -> None:
        """Stop the run, if there is one."""
        if self.run is not None:
            self.run.cancel()

    def results(self) -> list[Result]:
        """Return the outputs of the last run whose alpha can be shown, alpha-only ones first."""
        with self._lock:
            run = self.run
            if run is None or run.progress.summary is None:
                return []
            if self._results is None or self._results[0] is not run:
                shown = sorted(
                    filter(can_show, run.progress.summary.outputs), key=lambda output: output.kind
                )
                size = self.clip_info.width, self.clip_info.height
                self._results = (run, [Result(output, *size) for output in shown])
            return self._results[1]

    def state(self) -> dict[str, Any]:
        """Return all that the page shows except pictures and the curve."""
        with self._lock:
            project = self.project
            job = self._job(project)
            done, total = self.preview.progress
            return {
                "version": self._version,
                "objects": [_object_json(obj) for obj in project.objects],
                "start": project.start,
                "end": project.end,
                "can_undo": self._history.can_undo,
                "can_redo": self._history.can_redo,
                "saved_as": str(self.store.path),
                "command": command_of(job, project),
                "outputs": describe(self._selection, len(project.prompts)),
                "overwrite": self._selection.overwrite,
                "smooth": self._selection.smooth,
                "adapt_steps": self._selection.adapt_steps,
                "suggested_adapt_steps": SUGGESTED_ADAPT_STEPS,
                "preview": {
                    "on": self._is_previewing,
                    "done": done,
                    "total": total,
                    "error": self.preview.error,
                },
                "run": None if self.run is None else self._run_json(self.run),
                "kept": self.frame_cache.kept,
            }

    def clip(self) -> dict[str, Any]:
        """Return the facts of the clip, which do not change."""
        info = self._video.info
        return {
            "name": self.config.source.name or str(self.config.source),
            "frames": self.clip_info.frames,
            "width": self.clip_info.width,
            "height": self.clip_info.height,
            "frame_rate": float(info.frame_rate),
            "frame": self.first_shown,
            "first_number": self.clip_info.first_number,
            "suggested_below": SUGGESTED_BELOW,
            "notes": list(info.notes),
            "model": str(self.config.options.model),
        }

    def _run_json(self, run: Run) -> dict[str, Any]:
        answer = run.progress.as_json()
        summary = run.progress.summary
        if summary is None:
            return answer
        results = self.results()
        return answer | {
            "seconds": round(summary.seconds, 1),
            "frames": summary.frames,
            "first_frame": summary.first_frame - summary.first_number,
            "notes": list(summary.notes),
            "outputs": [
                {
                    "path": str(output.path),
                    "kind": output.kind,
                    "object": output.object_name,
                    "is_webm": output.path.suffix == ".webm" and output.kind == "colour",
                }
                for output in summary.outputs
            ],
            "shown": [
                {"path": str(obj.output.path), "object": obj.output.object_name} for obj in results
            ],
        }

    def _is_computing(self) -> bool:
        return self.run is not None and not self.run.progress.is_over

    def close(self) -> None:
        """Stop everything; a running run is cancelled and its partial outputs are removed."""
        if self.run is not None:
            self.run.close()
        self.worker.close()
        self.frame_cache.close()
        self.preview.close()
        for result in self.results():
            result.close()
        self._video.close()
        self.store.tidy([self.project])


def _object_json(obj: PromptedObject) -> dict[str, Any]:
    return {
        "id": obj.id,
        "name": obj.name,
        "color": obj.color,
        "frames": {
            str(frame): {
                "points": [list(point) for point in prompt.points],
                "strokes": [
                    {
                        "points": [list(corner) for corner in stroke.points],
                        "width": stroke.width,
                        "label": stroke.label,
                    }
                    for stroke in prompt.strokes
                ],
                "box": None if prompt.box is None else list(prompt.box),
                "mask": prompt.mask.name if isinstance(prompt.mask, Path) else None,
                "scribbles": None if prompt.scribbles is None else prompt.scribbles.name,
            }
            for frame, prompt in sorted(obj.prompts.items())
        },
    }
