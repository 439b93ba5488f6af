"""Image sequences (numbered frames of one clip) and image sets (independent images)."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np

from vidmatte.errors import ReadError
from vidmatte.frames import ColorTags, FrameBatch, VideoInfo
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.transfer import LINEAR
from vidmatte.media.patterns import (
    FramePattern,
    is_pattern,
    parse_pattern,
    refuse_negative,
    trailing_number,
)
from vidmatte.media.unchanged import UnchangedFiles
from vidmatte.read.images import is_image, list_images, read_image
from vidmatte.read.plane import SequenceReading, read_alpha
from vidmatte.read.profile import in_srgb, read_profile
from vidmatte.read.still import STILL, StillImage
from vidmatte.read.video import DEFAULT_SEQUENCE_RATE, Frame, Video


def _numbered_files(source: Path) -> dict[int, Path]:
    if is_pattern(source):
        return _files_of_pattern(source)
    if is_image(source):
        # A single image may have any number.
        return {max(0, trailing_number(source) or 0): source}
    images = list_images(source)
    _refuse_several_names(source, images)
    # Two files of one number count once, which the next check finds.
    files = {number: path for path in images if (number := trailing_number(path)) is not None}
    if len(files) != len(images):
        raise ReadError(
            f"{source}: its {len(images)} images are not one numbered sequence (names must end in "
            f"different numbers); give a pattern such as '{source}/name.%04d.png', or --images to "
            f"matte them as independent images"
        )
    refuse_negative(files)
    return files


def _refuse_several_names(source: Path, images: Sequence[Path]) -> None:
    """Raise ReadError if the numbered images of a folder differ in the name before the number.

    A mask among the frames, or a second clip, would be read as further frames.
    """
    counts: dict[str, int] = {}
    for path in images:
        # The minus of a negative number (refused elsewhere) is not part of the name.
        before = re.sub(r"((?<=[._ ])-)?\d+$", "", path.stem)
        if before == path.stem:
            return  # not numbered: refused by what is missing
        name = f"{before}####{path.suffix.lower()}"
        counts[name] = counts.get(name, 0) + 1
    if len(counts) > 1:
        usual = max(counts, key=lambda name: counts[name])
        found = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise ReadError(
            f"{source}: expected the frames of one clip, got files of {len(counts)} names: "
            f"{found}; "
            f"give the pattern of the clip, such as '{source / usual}', or --images to matte them "
            f"as independent images"
        )


def _files_of_pattern(pattern: Path) -> dict[int, Path]:
    if not pattern.parent.is_dir():
        raise ReadError(f"{pattern}: its folder {pattern.parent} does not exist; check the path")
    frames = parse_pattern(pattern)
    assert frames is not None  # only patterns come here
    if frames.span is not None:
        return _files_of_span(pattern, frames.whole, frames.span)
    files: dict[int, Path] = {}
    count = 0
    # Sorted, so that messages are the same on every machine.
    for path in sorted(pattern.parent.iterdir()):
        number = frames.number_of(path.name)
        if number is not None:
            files[number] = path
            count += 1
    refuse_negative(files)
    # As with %d: 7 and 007 are one number.
    if len(files) < count:
        raise ReadError(
            f"{pattern}: two files have the same number; give the number of digits, as in %04d"
        )
    if not files:
        raise ReadError(f"{pattern}: no file matches; check the name and the number of digits")
    return files


def _files_of_span(pattern: Path, frames: FramePattern, span: tuple[int, int]) -> dict[int, Path]:
    """Return the files of a pattern with a range, as in `shot.1001-1100####.exr`."""
    first, last = span
    if first > last:
        raise ReadError(f"{pattern}: the range {first}-{last} is empty; write the smaller first")
    found = _files_of_pattern(pattern.with_name(f"{frames.before}%0{frames.digits}d{frames.after}"))
    files = {number: path for number, path in found.items() if first <= number <= last}
    # The ends are checked here, gaps between them with all sequences.
    for number in span:
        if number not in files:
            raise ReadError(
                f"{pattern}: frames {first} to {last} asked for, but {frames.name_of(number)} is "
                f"missing; there are {min(found)} to {max(found)}"
            )
    return files


def _refuse_gaps(source: Path, numbers: Sequence[int]) -> None:
    count = numbers[-1] - numbers[0] + 1 - len(numbers)
    if count:
        # Drawn one by one: a stray number may lie billions away.
        gaps = chain.from_iterable(range(a + 1, b) for a, b in pairwise(numbers))
        shown = ", ".join(map(str, islice(gaps, 10))) + (", ..." if count > 10 else "")
        raise ReadError(
            f"{source}: expected frames {numbers[0]} to {numbers[-1]}, but {count} are missing: "
            f"{shown}; render them, or give --images to matte the files as independent images"
        )


def _alphas(files: Sequence[Path]) -> Generator[Alpha]:
    for path in files:
        alpha = read_alpha(path)
        # The size is known only from the image.
        if alpha is None:
            height, width = read_image(path).rgb.shape[1:]
            alpha = np.ones((height, width), np.float32)
        yield alpha


def _describe(
    source: str,
    files: Sequence[Path],
    frame_rate: Fraction | None,
    *,
    first_number: int | None = None,
) -> VideoInfo:
    first = read_image(files[0])
    height, width = first.rgb.shape[1:]
    rate = frame_rate or first.frame_rate or DEFAULT_SEQUENCE_RATE
    return VideoInfo(
        source=source,
        width=width,
        height=height,
        frame_rate=rate,
        time_base=1 / rate,
        frames_in_header=len(files),
        bit_depth=first.bit_depth,
        color=first.color,
        sample_aspect_ratio=first.sample_aspect_ratio,
        timecode=first.timecode,
        first_number=first_number,
        has_alpha=_has_alpha(files[0]),
        notes=first.notes,
    )


def _has_alpha(path: Path) -> bool:
    """Return whether an image is transparent somewhere; many have alpha of 1 everywhere."""
    alpha = read_alpha(path)
    return alpha is not None and float(alpha.min()) < 1


def _refuse_other_color(path: Path, image: StillImage, info: VideoInfo) -> None:
    """Raise ReadError if an image has another kind of colour than the first one."""
    # Light and code values cannot be told apart later.
    if (image.color.transfer == LINEAR) != (info.color.transfer == LINEAR):
        raise ReadError(
            f"{path}: holds {_kind(image.color)} colour, the first image {_kind(info.color)}; "
            f"convert one"
        )
    if image.color.icc != info.color.icc:
        raise ReadError(
            f"{path}: has another colour profile than the first image; convert all to one profile"
        )


def _plain(color: ColorTags) -> ColorTags:
    """Return the tags of the result of `in_srgb`."""
    return color if color.icc is None else STILL


def _kind(color: ColorTags) -> str:
    return "scene-linear" if color.transfer == LINEAR else "display-referred"


class SequenceVideo(Video):
    """Numbered images of one size, as one clip; the first number may be any.

    Without a frame rate, that of the header counts, or 24.
    """

    def __init__(self, source: str | Path, frame_rate: Fraction | None = None) -> None:
        super().__init__()
        self._read_files = UnchangedFiles()
        numbered = _numbered_files(Path(source))
        # By number: names need not be padded.
        numbers = sorted(numbered)
        _refuse_gaps(Path(source), numbers)
        self._files = [numbered[number] for number in numbers]
        self.label: int | None = None
        """Object of label masks for `opacity`; None for the only one."""
        self.info = _describe(str(source), self._files, frame_rate, first_number=numbers[0])
        # An image that is named itself is no sequence: a number in its name may mean anything.
        self.first_number = 0 if is_image(Path(source)) else numbers[0]

    def check_unchanged(self) -> None:
        """See `Video.check_unchanged`; checks all files read so far."""
        self._read_files.check()

    def count_frames(self) -> int:
        """Return the number of files."""
        return len(self._files)

    def seconds_of(self, index: int) -> Fraction:
        """Return the index over the frame rate."""
        return index / self.info.frame_rate

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield frames from `start` on. Raises ReadError for damaged files and other sizes."""
        for index in range(start, len(self._files)):
            # Noted before reading, so that a replaced file is seen.
            self._read_files.add(self._files[index])
            image = read_image(self._files[index])
            _refuse_other_color(self._files[index], image, self.info)
            self._check_size(self._files[index], image.rgb.shape[1:])
            yield Frame(image.rgb, index, index, 1)

    def opacity(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.opacity`."""
        reading = SequenceReading.of(self._files, label=self.label)
        for path in self._files[start:]:
            self._read_files.add(path)
            plane = reading.read(path)
            self._check_size(path, plane.shape)
            yield plane

    def alpha(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.alpha`."""
        yield from _alphas(self._files[start:])

    def _check_size(self, path: Path, size: tuple[int, ...]) -> None:
        height, width = size
        if (height, width) != (self.info.height, self.info.width):
            raise ReadError(
                f"{path}: is {width}x{height}, but the sequence began with "
                f"{self.info.width}x{self.info.height}; "
                f"scale it, or give --images for images of any size"
            )


class ImageSet(Video):
    """Independent images, each of its own size; `info` describes the first.

    Batches hold one image each.
    """

    def __init__(self, images: Sequence[str | Path]) -> None:
        super().__init__()
        self._read_files = UnchangedFiles()
        paths = [Path(image) for image in images]
        # A single folder stands for its images.
        self._files = list_images(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
        names = [path.stem for path in self._files]
        # Outputs are called by the names.
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ReadError(
                f"several images have the same name {', '.join(twice)}: their mattes would collide"
            )
        # One image a second: sets have no time, but outputs need a rate.
        self.info = _describe(str(images[0]), self._files, Fraction(1))
        # Photographs of several cameras: what is common to all is sRGB.
        self._converts = len({read_profile(path)[0] for path in self._files}) > 1
        if self._converts:
            note = "the images have several colour profiles and were converted to sRGB"
            color = _plain(self.info.color)
            self.info = replace(self.info, color=color, notes=(*self.info.notes, note))

    def check_unchanged(self) -> None:
        """See `Video.check_unchanged`; looks at the images that were read."""
        self._read_files.check()

    def count_frames(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def adjacent(self, index: int) -> FrameBatch | None:
        """Return None: images of a set have no time."""
        return None

    def seconds_of(self, index: int) -> Fraction:
        """Return the index: images of a set have no time."""
        return Fraction(index)

    def alpha(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.alpha`."""
        yield from _alphas(self._files[start:])

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield images from `start` on, in the order of their names."""
        for index in range(start, len(self._files)):
            path = self._files[index]
            self._read_files.add(path)
            image = read_image(path)
            if self._converts:
                rgb = in_srgb(image.rgb, image.color)
                image = replace(image, rgb=rgb, color=_plain(image.color))
            _refuse_other_color(path, image, self.info)
            yield Frame(image.rgb, index, index, 1, name=path.stem)
