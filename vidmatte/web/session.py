"""One clip that is being marked: all that the page can ask for, without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

import cv2
import numpy as np
import torch

from vidmatte.errors import OptionError, PromptError, ReadError, VidmatteError
from vidmatte.imaging.despill import despill
from vidmatte.imaging.display import to_display
from vidmatte.imaging.foreground import estimate_foreground
from vidmatte.imaging.optical_flow import to_gray
from vidmatte.imaging.temporal import smooth_alphas
from vidmatte.media.limits import check_size, header_size
from vidmatte.media.patterns import stem_of
from vidmatte.media.timecode import advance_timecode
from vidmatte.model.catalogue import all_models
from vidmatte.options import PROMPT_MODELS, SUGGESTED_ADAPT_STEPS, MatteOptions, PromptModelName
from vidmatte.pipeline.models import model_from_options, with_prompt_model
from vidmatte.pipeline.source import open_clip
from vidmatte.prompts.objects import clean_name
from vidmatte.read import parse_position
from vidmatte.read.images import is_image
from vidmatte.report.summary import SUGGESTED_BELOW
from vidmatte.web.edge import Edge, decoded, describe_controls
from vidmatte.web.follow import FARTHEST, follow_prompt
from vidmatte.web.frame_cache import SMALL, FrameCache
from vidmatte.web.outputs import (
    command_of,
    default_outputs,
    describe,
    describe_space,
    files_of,
    job_of,
    set_command_of,
)
from vidmatte.web.preview import Preview, Way
from vidmatte.web.project import (
    Edit,
    History,
    Project,
    PromptedObject,
    changed_marks,
    edited,
    frame_of,
    object_of,
    with_mask,
    with_prompt,
)
from vidmatte.web.run import Job
from vidmatte.web.runs import Runs
from vidmatte.web.sound import Sound
from vidmatte.web.still import Still, Stills, gray_png
from vidmatte.web.store import Store, prompt_file_of
from vidmatte.web.tips import Tips
from vidmatte.web.worker import Worker


@dataclass(frozen=True)
class PickerConfig:
    """The clip and options that the picker is opened with."""

    source: Path | None
    """None to choose one in the page; a session needs one."""
    prompt_file: Path | None = None
    """None for the file beside the clip."""
    frame: int | str | None = None
    """Position of the frame that is shown first; None for the first one."""
    outputs: tuple[str, ...] = ()
    """Outputs with colour and alpha that are offered first."""
    alphas: tuple[str, ...] = ()
    options: MatteOptions = field(default_factory=MatteOptions)
    """Their in and out points apply to a new project."""
    tips_file: Path | None = None
    """Where tips that were read are remembered; None to forget them."""


class Session:
    """The clip, its marks, and what is computed from them. Thread-safe; close it at the end.

    Raises VidmatteError for a clip, a model or a prompt file that cannot be used.
    """

    def __init__(self, config: PickerConfig, *, folder: Path | None = None) -> None:
        assert config.source is not None  # `pick` asks for one
        self.config = config
        self._source = config.source
        self._folder = folder or Path()
        with ExitStack() as stack:
            # If a later step fails, what was opened is closed again.
            self._video = stack.enter_context(open_clip(self._source, config.options))
            model = model_from_options(
                replace(config.options, prompt_model=None, prompt_weights=None)
            )
            answering = with_prompt_model(model, config.options)
            self.frame_cache = FrameCache(self._video, config.options.mask_fit)
            stack.callback(self.frame_cache.close)
            self.clip_info = self.frame_cache.clip_info
            self.first_shown = self._index_of(config.frame)
            beside = prompt_file_of(self._source, self._folder.resolve())
            self.store = Store(config.prompt_file or beside, self._source)
            self._history = History(self._opened())
            self._selection = default_outputs(
                self._source, config.outputs, config.alphas, config.options, self._folder
            )
            # Outputs that cannot be written are refused now, not at every step of the page.
            project = self._history.project
            self._options = config.options
            describe(self._selection, list(project.prompts))
            command_of(self._job(), project)
            stack.pop_all()
        # Requests come in several threads, and some of its holders call each other.
        self._lock = threading.RLock()
        self._switching = threading.Lock()
        """Held while the model for marks is changed, so that the last choice wins."""
        self._model = model
        self._stills = Stills(answering, self.frame_cache)
        self.preview = Preview(self._stills, self.frame_cache)
        self.sound = Sound(self._source)
        self._despill_strength = self.edge.despill_strength
        """Kept while there is no despill."""
        self.tips = Tips(config.tips_file)
        self._is_previewing = False
        self._way: Way = "both"
        self._version = 0
        self.edge_version = 0
        """Counts the changes of the edge: pictures of an older one are of no use."""
        self.worker = Worker()
        self.runs = Runs(self._video, self.clip_info)
        self.ended = threading.Event()
        """Set when the page says that it is done."""
        self.frame_cache.prefetch_all(lambda: self.worker.is_busy or self.runs.is_under_way)

    def _index_of(self, position: int | str | None) -> int:
        """Return the index of a frame of the clip. Raises OptionError if there is none."""
        index = 0 if position is None else parse_position(position, self._video)
        if index >= self.clip_info.frames:
            raise self._video.no_frame(self._video.number_of(index))
        return index

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
        is_exact = self.config.options.mask_fit == "exact"
        if size is None or (is_exact and size not in wanted):
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

    def copy_marks(self, number: int, source: int, target: int) -> None:
        """Copy the marks of a frame to another one, moved along with the picture.

        Raises PromptError if there are none, or they cannot be followed.
        """
        obj = self.project.object(number)
        prompt = obj.prompts.get(frame_of({"frame": source}, self.clip_info))
        frame_of({"frame": target}, self.clip_info)
        first = self.clip_info.first_number
        if prompt is None or source == target:
            raise PromptError(
                f"frame {source + first} has no marks of {obj.name} to copy to {target + first}"
            )
        # Flow errors add up from frame to frame: a mark that drifted off is worse than none.
        if abs(target - source) > FARTHEST:
            raise PromptError(
                f"frame {target + first} is {abs(target - source)} frames away from "
                f"{source + first}: marks are followed over {FARTHEST} at most; mark a frame in "
                "between"
            )
        # Read forward in any case, as decoders do; turned round if the copy goes backward.
        low, high = sorted((source, target))
        size = self.clip_info.width, self.clip_info.height
        grays = [to_gray(rgb[0]) for _, rgb in self.frame_cache.proxy_frames(SMALL, low, high + 1)]
        if len(grays) <= high - low:
            raise PromptError(
                f"frames {low + first} to {high + first} cannot be read, so no mark is followed"
            )
        moved = follow_prompt(prompt, target, grays if low == source else grays[::-1], size)
        with self._lock:
            self._put(with_prompt(self.project, number, moved), target)

    def undo(self, by: int) -> tuple[int, int] | None:
        """Undo (-1) or redo (1) an edit; return the object and frame whose marks it changed.

        None if it changed no marks.
        """
        with self._lock:
            before = self.project
            self._history.step(by)
            changed = changed_marks(before, self.project)
            self._changed(self.first_shown if changed is None else changed[1])
            return changed

    def _put(self, project: Project, focus: int) -> None:
        self._history.push(project)
        self._changed(focus)

    def _changed(self, focus: int) -> None:
        self._version += 1
        # At every edit, not at the end: a page that crashes loses nothing.
        self.store.save(self.project)
        if self._is_previewing:
            self.worker.work_on(self.preview.plan(self.project, focus, self._way))

    def still(self, number: int, frame: int) -> Future[Still] | None:
        """Return the matte of a marked frame, once computed; None for a frame without marks."""
        return self._still_of(self.project, number, frame)

    def tried(self, edit: Edit) -> Future[Still] | None:
        """Return the matte of a marked frame as an edit would change it; the edit is not made.

        The page shows it while a mark is dragged. A newer one of the object takes its place, as for
        `still`. None if the frame would have no marks. Raises PromptError as `edit` does.
        """
        project = edited(self.project, edit, self.clip_info)
        return self._still_of(project, object_of(edit), frame_of(edit, self.clip_info))

    def _still_of(self, project: Project, number: int, frame: int) -> Future[Still] | None:
        prompt = project.object(number).prompts.get(frame)
        if prompt is None:
            return None
        kept = self._stills.kept(prompt)
        if kept is None:
            return self.worker.submit(("still", number), lambda: self._stills.still(prompt))
        known: Future[Still] = Future()
        known.set_result(kept)
        return known

    def small_alpha(self, number: int, frame: int) -> bytes | None:
        """Return a small gray PNG of an object's matte in a frame, with its edge as it is set.

        It is that of the run if the marks have not changed since and the edge can be that of the
        page, else of the preview.
        """
        edge = self.edge
        run = self.runs.of(self.project)
        # A run knows objects by the names of its files.
        name = clean_name(self.project.object(number).name)
        written = None if run is None else run.mattes.get((name, frame))
        if run is not None and written is not None:
            its_edge = Edge.of(run.job.options)
            if its_edge == edge:
                return written
            if its_edge.is_plain and its_edge.smooth == edge.smooth:
                return edge.finished_png(written, self._video.info.height)
        png = self._smoothed(number, frame, edge.smooth)
        if png is None:
            return written
        return edge.finished_png(png, self._video.info.height)

    def _smoothed(self, number: int, frame: int, strength: float) -> bytes | None:
        """Return the matte of the preview, smoothed if its neighbours are known too."""
        png = self.preview.alpha(number, frame)
        if png is None or strength == 0:
            return png
        near = [n for n in (frame - 1, frame, frame + 1) if 0 <= n < self.clip_info.frames]
        found = {n: self.preview.alpha(number, n) for n in near}
        known = [(n, beside) for n, beside in found.items() if beside is not None]
        if len(known) < 2:
            return png
        frames = ((torch.from_numpy(decoded(beside)), self._small_rgb(n)) for n, beside in known)
        index = [n for n, _ in known].index(frame)
        smoothed = next(islice(smooth_alphas(frames, strength), index, None))
        return gray_png(smoothed[None, None], smoothed.shape[1], smoothed.shape[0])

    def _small_rgb(self, frame: int) -> torch.Tensor:
        """Return a small frame (3, h, w) as the page shows it."""
        jpeg = np.frombuffer(self.frame_cache.jpeg(frame, SMALL), np.uint8)
        picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
        return torch.from_numpy(picture).permute(2, 0, 1).float() / 255

    def finished_still(self, still: Still) -> bytes:
        """Return the PNG of a still with its edge as it is set."""
        return self.edge.finished_png(still.png, self._video.info.height)

    def picture_of(self, kind: str, number: int, frame: int, still: Still) -> tuple[str, bytes]:
        """Return name and PNG of a marked frame, to save.

        "still" is its straight colour with alpha, "mask" the matte without its edge controls, as a
        reference takes it.
        """
        name = f"{stem_of(self._source)}_{clean_name(self.project.object(number).name)}"
        if kind == "mask":
            return f"{name}_mask_{frame:06d}.png", still.png
        batch, _ = self.frame_cache.whole(frame)
        rgb = to_display(batch.rgb, self._video.info.color)
        alpha = torch.from_numpy(decoded(self.finished_still(still)))[None, None]
        size = rgb.shape[3], rgb.shape[2]
        if alpha.shape[2:] != rgb.shape[2:]:
            # Marks and mattes are of square pixels; the colour is estimated with those of the file.
            plane = cv2.resize(alpha[0, 0].numpy(), size, interpolation=cv2.INTER_AREA)
            alpha = torch.from_numpy(plane)[None, None]
        color = estimate_foreground(rgb, alpha)
        if self._options.despill is not None:
            color = despill(color, self._options.despill)
        planes = [*color[0].numpy()[::-1], alpha[0, 0].numpy()]
        wanted = self.clip_info.width, self.clip_info.height
        if wanted != size:
            planes = [cv2.resize(plane, wanted, interpolation=cv2.INTER_AREA) for plane in planes]
        codes = (cv2.merge(planes).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        _, data = cv2.imencode(".png", codes)
        return f"{name}_still_{frame:06d}.png", data.tobytes()

    def curves(self) -> dict[str, Any]:
        """Return the confidence of each frame in hundredths, -1 if unknown: lowest, and by object.

        That of a run is the lowest of its objects.
        """
        run = self.runs.of(self.project)
        written = {} if run is None else dict(run.confidence)
        lowest = self.preview.confidence()
        by_object = self.preview.confidence_by_object()
        marked = [obj.id for obj in self.project.objects if obj.prompts]
        if written:
            # A run tells one number for all objects.
            by_object = {marked[0]: list(lowest)} if marked else {}
        for frame, confidence in written.items():
            lowest[frame] = round(100 * confidence)
            for lane in by_object.values():
                lane[frame] = lowest[frame]
        return {"confidence": lowest, "objects": by_object}

    def show_preview(self, is_on: bool, focus: int, way: str = "both") -> None:
        """Start or stop computing a preview from the frame `focus`.

        Raises OptionError if nothing is marked, or there is no such way.
        """
        if way not in get_args(Way):
            raise OptionError(f"way {way!r} is not valid: choose one of {', '.join(get_args(Way))}")
        with self._lock:
            if is_on and not self.project.prompts:
                raise OptionError("nothing is marked yet: click on the object")
            self._is_previewing = is_on
            self._way = cast("Way", way)
            steps = self.preview.plan(self.project, focus, self._way) if is_on else None
            self.worker.work_on(steps)

    @property
    def edge(self) -> Edge:
        """The edge of the matte as it is set."""
        return Edge.of(self._options)

    def edge_over(self) -> Edge | None:
        """Return the edge that is put on top of a written file to show what a new run would write.

        None if the file has it already, or has another one that cannot be taken back.
        """
        its_edge = self._edge_of_run()
        return self.edge if its_edge.is_plain and its_edge != self.edge else None

    def _edge_of_run(self) -> Edge:
        run = self.runs.last
        return self.edge if run is None else Edge.of(run.job.options)

    def set_edge(self, asked: Mapping[str, Any]) -> None:
        """Change the edge of the matte. Raises OptionError."""
        with self._lock:
            strength = self._despill_strength
            edge = replace(self.edge, despill_strength=strength).with_page(asked)
            self._despill_strength = edge.despill_strength
            self._options = edge.applied_to(self._options)
            self.edge_version += 1

    def set_prompt_model(self, name: object) -> None:
        """Choose the model that answers marks from now on, by name. Raises VidmatteError.

        Weights are loaded first, which may take seconds; the marks stay.
        """
        offered = self.prompt_models
        if name not in offered:
            raise OptionError(
                f"model {name!r} does not answer marks here: choose one of {', '.join(offered)}"
            )
        chosen = None if name == offered[0] else cast("PromptModelName", name)
        weights = None if chosen is None else self.config.options.prompt_weights
        with self._switching:
            if chosen == self._options.prompt_model:
                return
            asked = replace(self._options, prompt_model=chosen, prompt_weights=weights)
            answering = with_prompt_model(self._model, asked)
            # The worker's thread is the only one that computes with a model.
            self.worker.submit("model", lambda: self._stills.use(answering)).result()
            with self._lock:
                # The edge may have been changed while the weights were loaded.
                self._options = replace(self._options, prompt_model=chosen, prompt_weights=weights)
                self.preview.clear()
                self._changed(self.first_shown)

    @property
    def prompt_models(self) -> tuple[str, ...]:
        """Names of the models that can answer marks: that of the clip, then the others here."""
        own = self._model.name
        given = self.config.options.prompt_weights
        here = {facts.name for facts in all_models() if facts.installed}
        if given is not None:
            here |= {name for name in PROMPT_MODELS if (Path(given).expanduser() / name).is_dir()}
        chosen = {self._options.prompt_model}
        return (own, *(name for name in PROMPT_MODELS if name != own and name in here | chosen))

    def set_outputs(self, asked: Mapping[str, Any]) -> None:
        """Change which outputs will be written, and how. Raises OptionError."""
        with self._lock:
            self._selection = self._selection.with_page(asked)

    def _job(self) -> Job:
        """Return the request for a run with the present marks, outputs and options."""
        return job_of(
            self._source,
            self.store.path,
            self._history.project,
            self._selection,
            self._options,
            self.clip_info.first_number,
        )

    def start_run(self) -> None:
        """Start the run at full quality. Raises VidmatteError if it cannot start."""
        with self._lock:
            self.runs.check_idle()
            if not self.project.prompts:
                raise OptionError("nothing is marked yet: click on the object")
            if not self._selection.chosen:
                raise OptionError("no output is chosen: choose at least one")
            job = self._job()
            files_of(job, self.project)
            self.store.save(self.project)
            # The run needs the processor; what the preview has computed stays in sight.
            self.show_preview(False, 0)
            self.runs.start(replace(job, color=self._video.info.color), self.project)

    def proxy(
        self, number: int, frame: int, *, is_color: bool = False, is_before: bool = False
    ) -> bytes | None:
        """Return a frame of the last run, small: gray PNG of alpha, or JPEG of straight colour.

        `is_before` takes the run before it. None if there is no such frame.
        """
        run = self.runs.before if is_before else self.runs.last
        if run is None:
            return None
        name = clean_name(self.project.object(number).name)
        if is_color:
            return run.mattes.get((name, frame, "colour"))
        png = run.mattes.get((name, frame))
        edge = None if is_before else self.edge_over()
        if png is None or edge is None:
            return png
        return edge.finished_png(png, self._video.info.height)

    def state(self) -> dict[str, Any]:
        """Return all that the page shows except pictures and the curve."""
        with self._lock:
            project = self.project
            job = self._job()
            last = self.clip_info.frames - 1 if project.end is None else project.end
            done, total = self.preview.progress
            names = [clean_name(name) for name in project.prompts]
            return {
                "version": self._version,
                "objects": [_object_json(obj) for obj in project.objects],
                "start": project.start,
                "end": project.end,
                "can_undo": self._history.can_undo,
                "can_redo": self._history.can_redo,
                "saved_as": str(self.store.path),
                "command": command_of(job, project),
                "set_command": self._set_command(job),
                "outputs": describe(self._selection, names),
                "name": self._selection.name,
                "folder": str(self._selection.folder),
                "space": describe_space(
                    self._selection.folder,
                    last - (project.start or 0) + 1,
                    float(self._video.info.frame_rate),
                ),
                "overwrite": self._selection.overwrite,
                "report": self._selection.report,
                "adapt_steps": self._selection.adapt_steps,
                "suggested_adapt_steps": SUGGESTED_ADAPT_STEPS,
                "prompt_model": self._options.prompt_model or self._model.name,
                "prompt_models": list(self.prompt_models),
                "edge": asdict(replace(self.edge, despill_strength=self._despill_strength)),
                "edge_version": self.edge_version,
                "tips": list(self.tips.read),
                "preview": {
                    "on": self._is_previewing,
                    "way": self._way,
                    "seconds_left": self.preview.seconds_left if self._is_previewing else None,
                    "done": done,
                    "total": total,
                    "error": self.preview.error,
                },
                "run": self.runs.as_json(project),
                "kept": self.frame_cache.kept,
            }

    def _set_command(self, job: Job) -> str | None:
        """Return the command for the images beside a still; None for a clip."""
        if self.clip_info.frames > 1 or not is_image(self._source):
            return None
        return set_command_of(job, self.project, self._selection.folder)

    def clip(self) -> dict[str, Any]:
        """Return the facts of the clip, which do not change."""
        info = self._video.info
        return {
            "name": self._source.name or str(self._source),
            "frames": self.clip_info.frames,
            "width": self.clip_info.width,
            "height": self.clip_info.height,
            "frame_rate": float(info.frame_rate),
            "frame": self.first_shown,
            "first_number": self.clip_info.first_number,
            "suggested_below": SUGGESTED_BELOW,
            "notes": list(info.notes),
            "model": str(self.config.options.model),
            "timecode": self.timecodes(0, 1)[0],
            "has_sound": info.audio_streams > 0,
            "options": describe_controls(),
            "defaults": asdict(Edge()),
        }

    def timecodes(self, first: int, count: int) -> list[str | None]:
        """Return the timecodes of some frames; None if the clip has none."""
        info = self._video.info
        if info.timecode is None:
            return [None] * count
        return [
            advance_timecode(info.timecode, frame, info.frame_rate)
            for frame in range(first, first + count)
        ]

    def close(self) -> None:
        """Stop everything; a running run is cancelled and its partial outputs are removed."""
        # The worker ends before what its jobs read from.
        self.runs.close()
        self.worker.close()
        self.frame_cache.close()
        self.preview.close()
        self.sound.close()
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
                "extent": prompt.extent,
            }
            for frame, prompt in sorted(obj.prompts.items())
        },
    }
