"""The whole flow with its parts in reach: the clip, its references, the model, and the mattes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vidmatte.errors import OptionError
from vidmatte.frames import MatteBatch
from vidmatte.model.interface import Model, Predictor
from vidmatte.options import MatteOptions
from vidmatte.pipeline.models import model_from_options, model_of, share_cores
from vidmatte.pipeline.outputs import OutputPlan, check_objects
from vidmatte.pipeline.progress import ProgressCallback, Work
from vidmatte.pipeline.request import Request, Shot, open_shot
from vidmatte.pipeline.run import predictors_of, streamed
from vidmatte.pipeline.source import Inputs, Paths, Source
from vidmatte.prompts.objects import ObjectPrompts, Prompts
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video
from vidmatte.write import Outputs

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class MattedFrame:
    """A frame with its matte, as arrays."""

    number: int
    """That of its file in an image sequence; counted from 0 in a movie and in memory."""
    alpha: npt.NDArray[np.float32]
    """(H, W) in 0..1."""
    color: npt.NDArray[np.float32]
    """(H, W, 3) straight RGB, display-referred in 0..1 for ordinary sources: the estimated
    foreground, or the source's colour if none was asked for."""
    confidence: float
    """How sure the model is of the matte, 0..1."""
    name: str = ""
    """Name of an image of a set; empty for frames of a clip."""

    def rgba(self) -> npt.NDArray[np.uint8]:
        """Return (H, W, 4) uint8, straight colour and alpha."""
        values = np.dstack([self.color, self.alpha])
        return (values * 255 + 0.5).clip(0, 255).astype(np.uint8)

    def image(self) -> Image:
        """Return an RGBA image of Pillow, straight colour."""
        from PIL import Image

        return Image.fromarray(self.rgba())


def matted_frames(batch: MatteBatch, video: Video) -> Iterator[MattedFrame]:
    """Yield the frames of a batch of a clip as arrays."""
    for index, frame in enumerate(batch.source.frames):
        yield MattedFrame(
            video.number_of(frame),
            batch.alpha[index, 0].numpy(),
            batch.color[index].permute(1, 2, 0).numpy(),
            batch.confidence[index],
            batch.source.names[index] if batch.source.names else "",
        )


class Pipeline:
    """What `vidmatte.matte` does, step by step, for one clip or set of images.

    Use it in a `with` statement. The parts are made when they are first asked for: `video`,
    `references`, `model`, `predictors` (adapted to the references), then the mattes, which are
    those of `matte` to the bit.

        with Pipeline("clip.mp4", Prompt(points=[(640, 360)])) as pipeline:
            for frame in pipeline.frames():
                frame.image().save(f"{frame.number:04d}.png")

    The number of threads is set as in `matte` while it is open.
    """

    def __init__(
        self,
        source: Inputs,
        prompts: Prompts = (),
        *,
        reference: str | Path | None = None,
        images: bool = False,
        options: MatteOptions | None = None,
        color: bool = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Take what `vidmatte.matte` takes; nothing is opened yet.

        Args:
            source: a movie, a folder or pattern of frames, the images of a set, or frames in
                memory: arrays (H, W, 3) or Pillow images.
            prompts: marks on frames of `source`, or of `reference`.
            reference: the image or clip that is marked; None for `source`.
            images: whether `source` is a set of independent images.
            options: all other choices.
            color: whether foreground colour is estimated.
            progress: told of each stage and unit of work, see `vidmatte.matte`.

        Raises:
            VidmatteError: the prompts do not fit each other or the options.
        """
        chosen = options or MatteOptions()
        marked = ObjectPrompts.of(prompts, reference)
        check_objects(list(marked.objects), chosen)
        self._request = Request(Source.of(source, images=images), marked, OutputPlan(), chosen)
        self._color = color
        self._work = Work(progress)
        self._stack = ExitStack()
        self._opened: Shot | None = None

    def __enter__(self) -> Pipeline:
        options = self._request.options
        with ExitStack() as stack:
            self._opened = stack.enter_context(open_shot(self._request))
            stack.enter_context(share_cores(options))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened = None
        self._stack.close()

    @property
    def _shot(self) -> Shot:
        if self._opened is None:
            raise OptionError("the pipeline is not open: use it in a with statement")
        return self._opened

    @property
    def video(self) -> Video:
        """The source."""
        return self._shot.video

    @property
    def references(self) -> Mapping[str, tuple[Reference, ...]]:
        """The drawn marks of each object by its name; "" for one without a name."""
        return self._shot.references

    @cached_property
    def model(self) -> Model:
        """The model of the options. Loaded on first use. Raises ModelError."""
        shot = self._shot
        self._work.begin("loading")
        return model_of(shot, model_from_options)

    @cached_property
    def predictors(self) -> Mapping[str, Predictor]:
        """The model with the references of each object, adapted to them on first use."""
        shot = self._shot
        made = predictors_of(shot, self.model, self._work)
        return dict(zip(shot.references, made, strict=True))

    def mattes(self) -> Generator[Mapping[str, MatteBatch]]:
        """Yield the finished mattes of each object by its name, frames in order.

        They are smoothed, finished and have their foreground colour, as far as the options say so.
        Raises ReadError for a frame that cannot be read.
        """
        shot = self._shot
        predictors = list(self.predictors.values())
        work = self._work
        stages = streamed(shot, self.model, predictors, color=self._color, work=work)
        with closing(stages):
            for batches in stages:
                yield dict(zip(shot.references, batches, strict=True))
                work.add("matting", len(batches[0]))
        shot.check_unchanged()

    def __iter__(self) -> Iterator[MatteBatch]:
        """Yield the finished mattes of the only object. Raises OptionError if there are several."""
        name = self._only_object(None)
        return (mattes[name] for mattes in self.mattes())

    def frames(self, name: str | None = None) -> Iterator[MattedFrame]:
        """Yield each frame with the matte of an object as arrays.

        `name` is that of the object; None if there is only one. Raises OptionError.
        """
        name = self._only_object(name)
        return (
            frame for mattes in self.mattes() for frame in matted_frames(mattes[name], self.video)
        )

    def _only_object(self, name: str | None) -> str:
        names = list(self.references)
        if name is None and len(names) == 1:
            return names[0]
        if name not in names:
            found = "no name was given" if name is None else f"{name!r} was asked for"
            raise OptionError(f"the objects are {', '.join(names)}, and {found}; name one of them")
        return name

    def outputs(self, output: Paths = (), alpha: Paths = ()) -> Outputs:
        """Return outputs to enter with `with`; `write` takes the mattes of each object.

        Args:
            output: files of colour with alpha; see `vidmatte.matte`.
            alpha: files of alpha alone.

        Raises:
            VidmatteError: a path does not fit the source, the objects or the options, or exists.
        """
        plan = OutputPlan.resolve(
            output,
            alpha,
            objects=list(self.references),
            images=self._request.source.images,
            options=self._request.options,
        )
        overwrite = self._request.options.overwrite
        return self._shot.create_outputs(overwrite=overwrite, specs=plan.specs)
