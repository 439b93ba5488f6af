"""The source of a run: which files it reads, how they are opened, and which frames are matted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from vidmatte.errors import OptionError, ReadError
from vidmatte.media.patterns import refuse_tiles, with_view
from vidmatte.options import MatteOptions
from vidmatte.pipeline.color import with_input_space
from vidmatte.read import Video, open_video, parse_position
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.memory import ImageLike, MemoryVideo, is_image_like
from vidmatte.read.sequence import ImageSet

Paths = str | Path | Sequence[str | Path]
Inputs = Paths | ImageLike | Sequence[ImageLike]
"""Paths, or images in memory."""


@dataclass(frozen=True)
class Source:
    """A movie or an image sequence, or a set of independent images."""

    paths: tuple[str | Path, ...]
    images: bool = False
    """Whether the paths are independent images instead of one clip."""
    frames: Sequence[ImageLike] = field(default=(), compare=False, repr=False)
    """Images in memory in place of paths."""

    @classmethod
    def of(cls, inputs: Inputs, *, images: bool = False) -> Source:
        """Return the source of one path or several, or of images in memory.

        An array of four dimensions is a clip, (T, H, W, C).
        """
        if is_image_like(inputs):
            frames = inputs if getattr(inputs, "ndim", 0) == 4 else [inputs]
            return cls((), images, cast("Sequence[ImageLike]", frames))
        paths = as_list(cast("Paths", inputs))
        # Only the first is looked at: mixed inputs fail when they are opened.
        if paths and is_image_like(paths[0]):
            return cls((), images, cast("Sequence[ImageLike]", inputs))
        return cls(tuple(paths), images)

    def check_paths(self, options: MatteOptions) -> None:
        """Raise OptionError for tiles of textures, and for %V without a view."""
        _paths(self.paths, options)

    def open(self, options: MatteOptions) -> Video:
        """Open it with the reading options of `options`.

        Raises:
            OptionError: an option does not apply to this kind of source, or several files are
                given without `images`.
            ReadError: a file cannot be read.
        """
        # Path("") would be the current folder.
        if "" in map(str, self.paths):
            raise ReadError(
                "an empty path was given; name a movie, a folder or a pattern of frames"
            )
        # len, since an array has no truth value.
        if len(self.frames):
            return self._open_frames(options)
        if self.images:
            _refuse_clip_options(options)
            images = ImageSet(_paths(self.paths, options), choice=_choice(options))
            return _as_asked(images, options)
        if len(self.paths) != 1:
            raise OptionError(
                f"{len(self.paths)} inputs given: use --images if they are independent images"
            )
        return open_clip(self.paths[0], options)

    def _open_frames(self, options: MatteOptions) -> Video:
        if self.images:
            _refuse_clip_options(options)
            return _as_asked(MemoryVideo(self.frames, is_set=True), options)
        chosen = (options.reader, options.deinterlace, options.stream, options.on_damage)
        if chosen != ("pyav", "refuse", None, "refuse"):
            raise OptionError(
                "frames in memory were given: reader, deinterlacing, stream and damage are for "
                "movies only; leave them out"
            )
        if (options.missing, options.layer, options.view) != ("error", None, None):
            raise OptionError(
                "frames in memory were given: missing frames, layers and views are for files only; "
                "leave them out"
            )
        return _with_choices(MemoryVideo(self.frames, options.frame_rate), options)


def as_list(paths: Paths) -> list[str | Path]:
    """Return one path or several as a list."""
    return [paths] if isinstance(paths, str | Path) else list(paths)


def open_clip(source: str | Path, options: MatteOptions) -> Video:
    """Open a movie or a sequence with the reading options of `options`; see `open_video`."""
    (path,) = _paths([source], options)
    video = open_video(
        path,
        reader=options.reader,
        frame_rate=options.frame_rate,
        allow_truncated=options.allow_truncated,
        deinterlace=options.deinterlace,
        stream=options.stream,
        on_damage=options.on_damage,
        missing=options.missing,
        choice=_choice(options),
    )
    return _with_choices(video, options)


def _paths(paths: Sequence[str | Path], options: MatteOptions) -> list[str | Path]:
    """Return paths with the view in them. Raises OptionError for tiles of textures."""
    for path in paths:
        refuse_tiles(path)
    return [with_view(path, options.view) for path in paths]


def _choice(options: MatteOptions) -> ExrChoice:
    return ExrChoice(options.layer, options.view)


def _with_choices(video: Video, options: MatteOptions) -> Video:
    if options.start_number is not None:
        # In place of the number in the names of the files.
        video.info = replace(video.info, first_number=options.start_number)
    return _as_asked(video, options)


def _as_asked(video: Video, options: MatteOptions) -> Video:
    video.info = with_input_space(video.info, options)
    return _with_alpha_note(video, options)


def _with_alpha_note(video: Video, options: MatteOptions) -> Video:
    """Note what becomes of a source's alpha. Raises OptionError if it is wanted and missing."""
    info = video.info
    choice = options.source_alpha
    if not info.has_alpha:
        if choice != "ignore":
            raise OptionError(
                f"{info.source}: has no alpha, and source_alpha {choice!r} was given; leave it out"
            )
        return video
    done = {
        "ignore": "was not used, so that hidden colour may show; --source-alpha multiply keeps it "
        "hidden",
        "multiply": "was multiplied into the mattes",
        "matte": "is the matte",
    }
    note = f"the alpha of the source {done[choice]}"
    video.info = replace(info, notes=(*info.notes, note))
    return video


def _refuse_clip_options(options: MatteOptions) -> None:
    """Raise OptionError for an option that has no meaning for independent images."""
    chosen = {
        "frame_rate": options.frame_rate,
        "batch_size": options.batch_size,
        "start_number": options.start_number is not None,
        "allow_truncated": options.allow_truncated,
        "deinterlace": options.deinterlace != "refuse",
        "stream": options.stream is not None,
        "on_damage": options.on_damage != "refuse",
        "missing": options.missing != "error",
    }
    for name, value in chosen.items():
        if value:
            raise OptionError(
                f"{name} was given: it has no meaning for images of a set; leave it out"
            )
    if options.smooth or options.start or options.end:
        raise OptionError(
            "images of a set have no order in time: they cannot be smoothed, or cut with start and "
            "end"
        )


def frame_range(video: Video, options: MatteOptions) -> tuple[int, int | None]:
    """Return the first frame to matte, and the end frame (exclusive; None = end of the clip).

    Raises OptionError if the out point lies before the in point, or the in point behind the last
    frame.
    """
    start = 0 if options.start is None else parse_position(options.start, video)
    # The out point is included, ends of ranges are not.
    end = parse_position(options.end, video) + 1 if options.end is not None else None
    if end is not None and end <= start:
        raise OptionError(
            f"out point {options.end} lies before in point {options.start or video.first_number}: "
            f"swap them"
        )
    # Counting may read the whole file, so it is done only for an in point.
    if start and start >= video.count_frames():
        first, last = video.first_number, video.number_of(video.count_frames() - 1)
        numbered = f", numbered {first} to {last}" if first else ""
        raise OptionError(
            f"{video.info.source}: in point {options.start} is past the end: there are "
            f"{video.count_frames()} frames{numbered}"
        )
    return start, end


def expected_frames(video: Video, start: int, end: int | None) -> int | None:
    """Return how many frames will come by the headers, which may be wrong: for progress only."""
    total = video.info.frames_in_header
    if total is None:
        return None if end is None else end - start
    return max(0, min(total, total if end is None else end) - start)
