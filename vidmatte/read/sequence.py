"""Image sequences (numbered frames of one clip) and image sets (independent images)."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np

from vidmatte.errors import ReadError
from vidmatte.frames import Box, ColorTags, FrameBatch, VideoInfo, Windows, box_around
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.primaries import chromaticities_of
from vidmatte.imaging.transfer import LINEAR
from vidmatte.media.patterns import (
    FramePattern,
    is_pattern,
    parse_pattern,
    refuse_negative,
    trailing_number,
)
from vidmatte.media.unchanged import UnchangedFiles
from vidmatte.options import Missing
from vidmatte.read.exr import read_windows
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.images import is_image, list_images, read_image
from vidmatte.read.plane import SequenceReading, read_alpha
from vidmatte.read.profile import in_srgb, read_profile
from vidmatte.read.still import STILL, StillImage
from vidmatte.read.video import DEFAULT_SEQUENCE_RATE, Frame, Video

_MAIN = ExrChoice()


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


def _without_gaps(
    source: Path, files: Mapping[int, Path], missing: Missing
) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files in order, and notes on those that stand in for missing ones.

    Raises ReadError for missing numbers if they are not to be held, and if most are missing.
    """
    # By number: names need not be padded.
    numbers = sorted(files)
    count = numbers[-1] - numbers[0] + 1 - len(numbers)
    if not count:
        return [files[number] for number in numbers], ()
    # Drawn one by one: a stray number may lie billions away.
    gaps = chain.from_iterable(range(a + 1, b) for a, b in pairwise(numbers))
    shown = ", ".join(map(str, islice(gaps, 10))) + (", ..." if count > 10 else "")
    expected = f"expected frames {numbers[0]} to {numbers[-1]}, but {count} are missing: {shown}"
    if missing == "error":
        raise ReadError(
            f"{source}: {expected}; render them, give --missing hold to repeat the frames before "
            f"them, or --images to matte the files as independent images"
        )
    if count > len(numbers):
        raise ReadError(f"{source}: {expected}, more than there are; render them")
    held = [numbers[0]]
    for number in range(numbers[0] + 1, numbers[-1] + 1):
        held.append(number if number in files else held[-1])
    note = f"missing frames repeat the frame before them ({count} in all): {shown}"
    return [files[number] for number in held], (note,)


def _alphas(
    files: Sequence[Path], choice: ExrChoice = _MAIN, raster: Box | None = None
) -> Generator[Alpha]:
    for path in files:
        alpha = read_alpha(path, choice, raster=raster)
        # The size is known only from the image.
        if alpha is None:
            height, width = read_image(path, choice, raster=raster).rgb.shape[1:]
            alpha = np.ones((height, width), np.float32)
        yield alpha


def _windows_of(files: Sequence[Path]) -> Windows | None:
    """Return the windows that hold all frames; None if each is stored as it is shown, from 0, 0.

    Renders often store only the box that is not black, another one for each frame.
    """
    if files[0].suffix.lower() != ".exr":
        return None
    first, *others = (read_windows(path) for path in dict.fromkeys(files))
    data = first.data
    for path, windows in zip(list(dict.fromkeys(files))[1:], others, strict=True):
        if windows.display != first.display:
            raise ReadError(
                f"{path}: has the display window {windows.display}, the first image "
                f"{first.display}; render all frames in one format"
            )
        data = box_around(data, windows.data)
    if data == first.display and first.display[:2] == (0, 0):
        return None
    return Windows(data, first.display)


def _window_notes(windows: Windows | None) -> tuple[str, ...]:
    if windows is None or windows.raster == windows.display:
        return ()
    left, top, right, bottom = windows.raster
    x, y, x_end, y_end = windows.display
    return (
        f"the EXR has overscan: frames are {right - left}x{bottom - top} pixels, and marks count "
        f"from their corner; the display window of {x_end - x}x{y_end - y} begins at "
        f"{x - left},{y - top}; EXR outputs keep both windows, others have the display window",
    )


def _describe(
    source: str,
    files: Sequence[Path],
    frame_rate: Fraction | None,
    *,
    first_number: int | None = None,
    choice: ExrChoice = _MAIN,
    windows: Windows | None = None,
) -> VideoInfo:
    raster = None if windows is None else windows.raster
    first = read_image(files[0], choice, raster=raster)
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
        has_alpha=_has_alpha(files[0], choice, windows),
        notes=(*first.notes, *_window_notes(windows)),
        windows=windows,
        declared_space=first.declared_space,
    )


def _has_alpha(path: Path, choice: ExrChoice, windows: Windows | None) -> bool:
    """Return whether an image is transparent somewhere; many have alpha of 1 everywhere."""
    # Outside of the stored pixels there is nothing, which is no transparency of the picture.
    alpha = read_alpha(path, choice, raster=None if windows is None else windows.data)
    return alpha is not None and float(alpha.min()) < 1


def _refuse_other_color(path: Path, image: StillImage, color: ColorTags) -> None:
    """Raise ReadError if an image has another kind of colour than the first one."""
    # Light and code values cannot be told apart later.
    if (image.color.transfer == LINEAR) != (color.transfer == LINEAR):
        raise ReadError(
            f"{path}: holds {_kind(image.color)} colour, the first image {_kind(color)}; "
            f"convert one"
        )
    if image.color.icc != color.icc:
        raise ReadError(
            f"{path}: has another colour profile than the first image; convert all to one profile"
        )
    if chromaticities_of(image.color) != chromaticities_of(color):
        raise ReadError(
            f"{path}: has other primaries than the first image; convert all to one colour space"
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

    def __init__(
        self,
        source: str | Path,
        frame_rate: Fraction | None = None,
        *,
        missing: Missing = "error",
        choice: ExrChoice = _MAIN,
    ) -> None:
        """Open the files of a folder, a pattern or one image.

        Args:
            source: The folder, pattern or image.
            frame_rate: Frames per second.
            missing: Refuse missing numbers ("error"), or repeat the file before them ("hold").
            choice: Layer and view of EXR.

        Raises:
            ReadError: If the files are not one sequence.
        """
        super().__init__()
        self._read_files = UnchangedFiles()
        numbered = _numbered_files(Path(source))
        self._files, notes = _without_gaps(Path(source), numbered, missing)
        self._choice = choice
        self.label: int | None = None
        """Object of label masks for `opacity`; None for the only one."""
        windows = _windows_of(self._files)
        self._raster = None if windows is None else windows.raster
        info = _describe(
            str(source),
            self._files,
            frame_rate,
            first_number=min(numbered),
            choice=choice,
            windows=windows,
        )
        self.info = replace(info, notes=(*info.notes, *notes))
        self._color = info.color
        # An image that is named itself is no sequence: a number in its name may mean anything.
        self.first_number = 0 if is_image(Path(source)) else min(numbered)

    def read_within(self, windows: Windows) -> None:
        """Read EXR of this display window as the raster of the windows; change no other images."""
        own = self.info.windows
        size = (self.info.height, self.info.width)
        display = (0, 0, size[1], size[0]) if own is None else own.display
        is_same = display == windows.display
        if is_same and self._files[0].suffix.lower() == ".exr":
            left, top, right, bottom = self._raster = windows.raster
            self.info = replace(self.info, width=right - left, height=bottom - top, windows=windows)

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
            image = read_image(self._files[index], self._choice, raster=self._raster)
            _refuse_other_color(self._files[index], image, self._color)
            self._check_size(self._files[index], image.rgb.shape[1:])
            yield Frame(image.rgb, index, index, 1)

    def opacity(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.opacity`."""
        reading = SequenceReading.of(
            self._files, label=self.label, choice=self._choice, raster=self._raster
        )
        for path in self._files[start:]:
            self._read_files.add(path)
            plane = reading.read(path)
            self._check_size(path, plane.shape)
            yield plane

    def alpha(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.alpha`."""
        yield from _alphas(self._files[start:], self._choice, self._raster)

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

    def __init__(self, images: Sequence[str | Path], *, choice: ExrChoice = _MAIN) -> None:
        super().__init__()
        self._choice = choice
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
        self.info = _describe(str(images[0]), self._files, Fraction(1), choice=choice)
        self._color = self.info.color
        # Photographs of several cameras: what is common to all is sRGB.
        self._converts = len({read_profile(path)[0] for path in self._files}) > 1
        if self._converts:
            note = "the images have several colour profiles and were converted to sRGB"
            self._color = _plain(self.info.color)
            self.info = replace(self.info, color=self._color, notes=(*self.info.notes, note))

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
        yield from _alphas(self._files[start:], self._choice)

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield images from `start` on, in the order of their names."""
        for index in range(start, len(self._files)):
            path = self._files[index]
            self._read_files.add(path)
            image = read_image(path, self._choice)
            if self._converts:
                rgb = in_srgb(image.rgb, image.color)
                image = replace(image, rgb=rgb, color=_plain(image.color))
            _refuse_other_color(path, image, self._color)
            yield Frame(image.rgb, index, index, 1, name=path.stem)
