"""Label masks: images of a few flat values for objects, instead of shades of alpha.

Annotation tools and trackers (DAVIS, XMem, Cutie, SAM 2) write one number for each object, as an
index into a palette of colours or as a dark gray. Taken as brightness, such a mask would be half
transparent, or empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha

_CHOICE = re.compile(r"(.+):(\d+)")
_MOST_SHADES = 16
"""Flat grays or colours in an image; more of them mean no label image, unless it has a palette."""
_DARK_INDEX = 31
"""Largest number of an index image without palette; too dark for a matte, of 255."""
_BLACK = 16
"""Codes below this, of 255, are black."""
_WHITE = 248
"""Codes from this on, of 255, are white."""
_NEIGHBOURS = 4.0
"""Mean number of equal neighbours, of eight, in a flat area; at soft edges it is 2."""
_MIDDLE = (127, 128)
"""Codes of the unknown area in a trimap, and of one object in masks of some tools."""


@dataclass(frozen=True)
class LabelImage:
    """Objects of a label mask."""

    labels: npt.NDArray[np.int32]
    """(H, W): the number of the object, 0 for background."""
    objects: tuple[int, ...]
    """Numbers of all objects, rising."""

    def choose(self, path: Path, label: int | None) -> Alpha:
        """Return (H, W) alpha, 0 or 1, of one object.

        Raises:
            ReadError: If there are several objects and no label was chosen, or not this one.
        """
        found = ", ".join(map(str, self.objects)) or "none"
        if label is None and len(self.objects) > 1:
            raise ReadError(
                f"{path}: is a label mask of several objects ({found}); "
                f"choose one, as in {path.name}:{self.objects[-1]}"
            )
        if label is not None and label not in self.objects:
            raise ReadError(f"{path}: has no label {label}; its labels are {found}")
        chosen = label if label is not None else (*self.objects, 0)[0]
        if not chosen:
            return np.zeros(self.labels.shape, np.float32)
        return np.asarray(self.labels == chosen, np.float32)


def split_label(path: str | Path) -> tuple[Path, int | None]:
    """Return the file and the label of a path such as `mask.png:2`; None without a label.

    An existing file of this very name has no label.
    """
    found = _CHOICE.fullmatch(str(path))
    if found is None or Path(path).exists():
        return Path(path), None
    return Path(found[1]), int(found[2])


def labels_of_palette(
    indices: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8]
) -> LabelImage | None:
    """Return the labels of an image with a palette, None if the palette is one of shades.

    Args:
        indices: (H, W) entries of the palette.
        palette: (N, 3) red, green and blue.
    """
    used = [int(index) for index in np.unique(indices) if index < len(palette)]
    colors = palette[used].astype(int)
    is_gray = (np.ptp(colors, axis=1) == 0).all()
    is_usual = all(tuple(palette[index]) == _usual_color(index) for index in used)
    starts_black = len(palette) > 0 and palette[0].max() < _BLACK
    if not starts_black or (is_gray and not is_usual):
        return None
    return LabelImage(indices.astype(np.int32), tuple(index for index in used if index))


def labels_of_shades(codes: npt.NDArray[np.integer], *, only_dark: bool) -> LabelImage | None:
    """Return the labels of a gray image, None if its values are shades.

    Args:
        codes: (H, W) code values of an 8- or 16-bit image.
        only_dark: Take only numbers too dark to be shades. Otherwise a single flat gray, or
            several, are objects too, unless they are those of a trimap.
    """
    used = _few_values(codes)
    if not used or codes.min() > 0 or not _is_flat(codes, used):
        return None
    if max(used) <= (_DARK_INDEX if codes.dtype == np.uint8 else 255):
        return LabelImage(codes.astype(np.int32), used)
    # 16-bit codes are multiples of 257 if they come from 8 bits.
    unit = 1 if codes.dtype == np.uint8 else 257
    shades = sorted({round(value / unit) for value in used})
    middle = [shade for shade in shades if _BLACK < shade < _WHITE]
    is_trimap = len(middle) == 1 and middle[0] in _MIDDLE and shades[-1] >= _WHITE
    if only_dark or not middle or is_trimap:
        return None
    return LabelImage(np.round(codes / unit).astype(np.int32), tuple(shades))


def labels_of_colors(rgb: npt.NDArray[np.uint8]) -> LabelImage | None:
    """Return the labels of an image (H, W, 3) of a few flat colours, None if it is another.

    Labels are the places of the colours in the palette of DAVIS and PASCAL VOC if all are in it,
    else 1, 2, 3 ... in the order of their codes. Black is the background; of red and green alone,
    green is the object, as in strokes.
    """
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all():
        return None
    # One integer per colour makes them comparable and countable.
    codes = (rgb.astype(np.int32) << (16, 8, 0)).sum(axis=2, dtype=np.int32)
    used = _few_values(codes)
    if used is None or not _is_flat(codes, used):
        return None
    colors = {code: (code >> 16, code >> 8 & 255, code & 255) for code in (*used, 0)}
    black = [code for code, color in colors.items() if max(color) < _BLACK]
    objects = [code for code in used if code not in black]
    if not np.isin(codes, black).any():
        return _green_on_red(codes, [colors[code] for code in objects])
    usual = {_usual_color(index): index for index in range(256)}
    is_usual = all(colors[code] in usual for code in objects)
    labels = np.zeros(codes.shape, np.int32)
    numbers = {
        code: usual[colors[code]] if is_usual else place for place, code in enumerate(objects, 1)
    }
    for code, number in numbers.items():
        labels[codes == code] = number
    return LabelImage(labels, tuple(sorted(numbers.values())))


def _green_on_red(
    codes: npt.NDArray[np.int32], colors: list[tuple[int, int, int]]
) -> LabelImage | None:
    green = [color for color in colors if color[1] > 2 * max(color[0], color[2])]
    red = [color for color in colors if color[0] > 2 * max(color[1], color[2])]
    if len(colors) != 2 or len(green) != 1 or len(red) != 1:
        return None
    r, g, b = green[0]
    is_object = codes == (r << 16 | g << 8 | b)
    return LabelImage(is_object.astype(np.int32), (1,))


def _few_values(codes: npt.NDArray[np.integer]) -> tuple[int, ...] | None:
    """Return the values above 0, rising; None if they are too many."""
    # The middle row of a photograph usually has too many values already, and is counted fast.
    if len(np.unique(codes[len(codes) // 2])) > _MOST_SHADES + 1:
        return None
    values = np.unique(codes)
    if len(values) > _MOST_SHADES + 1:
        return None
    return tuple(int(value) for value in values if value)


def _is_flat(codes: npt.NDArray[np.integer], used: tuple[int, ...]) -> bool:
    """Return whether each value fills areas, unlike the shades along a soft edge."""
    padded = np.pad(codes, 1, mode="edge")
    height, width = codes.shape
    equal = np.zeros(codes.shape, np.uint8)
    for y in range(3):
        for x in range(3):
            equal += padded[y : y + height, x : x + width] == codes
    # The pixel itself was counted too.
    return all(float((equal[codes == value] - 1).mean()) >= _NEIGHBOURS for value in used)


def _usual_color(index: int) -> tuple[int, int, int]:
    """Return an entry of the palette of PASCAL VOC, also used by DAVIS and most trackers.

    The bits of the index, from the lowest, become those of red, green and blue, from the highest.
    """
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return color[0], color[1], color[2]
