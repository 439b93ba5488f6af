"""Methods under test: mattes of any other system, found by the names of the data set.

An image: `DIR/GROUP/NAME.*`, or `DIR/NAME.*`. A clip: `DIR/CLIP/` (or its `pha/` or `alpha/`) with
a file for each frame, of the frame's name; or a movie `DIR/CLIP.mkv`, `.mov`, `.webm` or `.mp4` of
the mattes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from vidmatte.datasets import Clip, ImageSample, read_truth
from vidmatte.datasets.find import image_named
from vidmatte.errors import ReadError
from vidmatte.evaluate.method import PredictedMatte, see
from vidmatte.evaluate.protocol import Plan, WorkItem
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.display import to_display
from vidmatte.imaging.squares import to_square
from vidmatte.read import open_video
from vidmatte.read.images import read_image, read_pixels

MOVIES = (".mkv", ".mov", ".webm", ".mp4")


@dataclass(frozen=True)
class PredictionMethod:
    """A folder of mattes."""

    folder: Path

    def mattes(self, plan: Plan, part: WorkItem) -> Generator[PredictedMatte]:
        """See `Method.mattes`. Raises ReadError if a matte is missing or of another size."""
        if plan.dataset.clips:
            yield from self._of_clip(plan.dataset.clips[part.index], part)
            return
        group = plan.dataset.groups[part.index]
        for index in part.targets:
            yield self._of_image(group.images[index], group.name, index, plan)

    def _of_image(self, sample: ImageSample, group: str, index: int, plan: Plan) -> PredictedMatte:
        path = image_named(self.folder / group, sample.name)
        path = path or image_named(self.folder, sample.name)
        if path is None:
            raise ReadError(
                f"{self.folder}: no matte of {sample.image}; looked for {group}/{sample.name}.* "
                f"and {sample.name}.*"
            )
        seen = see(sample, plan)
        alpha = self._read_matte(path, sample, plan.protocol.squares)
        return PredictedMatte(index, seen.rgb[0], alpha, seen.truth, seen.counted, None, None)

    def _read_matte(self, path: Path, sample: ImageSample, side: int | None) -> Alpha:
        """Read the matte of an image, or of the square cut from it."""
        height, width = sample.read_image().rgb.shape[1:]
        if side is None:
            return read_truth((path,), "alpha", (height, width), image=sample.image)
        # Systems that work on squares write those.
        if read_pixels(path).shape[:2] == (side, side):
            return read_truth((path,), "alpha", (side, side), image=sample.image)
        whole = read_truth((path,), "alpha", (height, width), image=sample.image)
        return to_square(whole, side)

    def _of_clip(self, clip: Clip, part: WorkItem) -> Iterator[PredictedMatte]:
        movie = next(
            (path for suffix in MOVIES if (path := self.folder / f"{clip.name}{suffix}").is_file()),
            None,
        )
        alphas = self._of_files(clip, part) if movie is None else _of_movie(movie, clip, part)
        with closing(alphas):
            for frame, alpha in zip(part.targets, alphas, strict=True):
                image = read_image(clip.frames[frame])
                truth = clip.read_alpha(frame, (alpha.shape[0], alpha.shape[1]))
                rgb = to_display(torch.from_numpy(image.rgb)[None], image.color)[0]
                yield PredictedMatte(frame, rgb, alpha, truth, None, None, None)

    def _of_files(self, clip: Clip, part: WorkItem) -> Generator[Alpha]:
        places = [self.folder / clip.name / inner for inner in ("", "pha", "alpha")]
        for frame in part.targets:
            stem = clip.frames[frame].stem
            found = [path for place in places if (path := image_named(place, stem)) is not None]
            if not found:
                movies = ", ".join(f"{clip.name}{suffix}" for suffix in MOVIES)
                raise ReadError(
                    f"{self.folder}: no matte of {clip.frames[frame]}; looked for "
                    f"{clip.name}/{stem}.*, {clip.name}/pha/{stem}.*, {clip.name}/alpha/{stem}.*, "
                    f"{movies}"
                )
            image = read_image(clip.frames[frame])
            size = (image.rgb.shape[1], image.rgb.shape[2])
            yield read_truth((found[0],), "alpha", size, image=clip.frames[frame])


def _of_movie(movie: Path, clip: Clip, part: WorkItem) -> Generator[Alpha]:
    """Yield the mattes of the counted frames, from a movie of all frames of the clip."""
    with open_video(movie) as video:
        count = video.count_frames()
        if count < 1 + part.targets[-1]:
            raise ReadError(
                f"{movie}: has {count} mattes, but {clip.folder} has at least "
                f"{1 + part.targets[-1]} frames"
            )
        size = read_image(clip.frames[0]).rgb.shape[1:]
        if (video.info.height, video.info.width) != size:
            raise ReadError(
                f"{movie}: is {video.info.width}x{video.info.height}, but its frames are "
                f"{size[1]}x{size[0]}; write it without scaling"
            )
        for batch in video.batches(1, start=part.targets[0], end=1 + part.targets[-1]):
            if batch.frames[0] in part.targets:
                yield batch.rgb[0].amax(0).clamp(0, 1).numpy()
