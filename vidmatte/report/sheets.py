"""Draw sheets of thumbnails with the numbers of their frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np
from torch import Tensor

from vidmatte.imaging.arrays import Bgr8
from vidmatte.report.thumbnails import Thumbnail

_WIDTH = 2400
"""Largest width of a contact sheet in pixels, unless one tile is wider."""
_GAP = 4
_BAR = 22
"""Height in pixels of the line of text above pictures."""
_BACK = (28, 28, 28)
_TEXT = (235, 235, 235)
REFERENCE = (110, 210, 120)
"""Label colour (blue, green, red) of marked frames."""
SUGGESTED = (60, 160, 255)
"""Label colour of frames worth marking."""
_QUALITY = 90


def contact_sheet(
    thumbnails: Sequence[Thumbnail],
    *,
    references: Collection[int] = (),
    suggested: Collection[int] = (),
) -> Bgr8:
    """Return source, alpha and composite of each frame, labelled, in rows."""
    cell = _cell(thumbnails)
    tiles = []
    for thumbnail in thumbnails:
        row = _row(thumbnail.pictures, cell)
        text = _label(thumbnail)
        color = _TEXT
        # A frame that was marked is shown as such, even if it is among the suggested ones.
        if thumbnail.frame in references:
            text += "  reference"
            color = REFERENCE
        elif thumbnail.frame in suggested:
            text += "  suggested"
            color = SUGGESTED
        bar = _bar(text, row.shape[1], color)
        tiles.append(_pad(np.vstack([bar, row])))
    return _pad(_grid(tiles))


def _grid(tiles: Sequence[Bgr8]) -> Bgr8:
    """Return tiles of one size in rows, the last one filled up with empty tiles."""
    height, width = tiles[0].shape[:2]
    columns = max(1, min(len(tiles), _WIDTH // width))
    # Rows of one length are needed for stacking.
    missing = -len(tiles) % columns
    filled = [*tiles, *[_plain(height, width)] * missing]
    starts = range(0, len(filled), columns)
    return np.vstack([np.hstack(filled[start : start + columns]) for start in starts])


def strip(thumbnail: Thumbnail) -> Bgr8:
    """Return source, alpha and composite of one frame side by side."""
    return _row(thumbnail.pictures, _cell([thumbnail]))


def side_by_side(pictures: Sequence[Bgr8]) -> Bgr8:
    """Return pictures of any size beside each other."""
    return _row(pictures, _largest(pictures))


def guidance_sheet(rows: Sequence[tuple[Thumbnail, Mapping[str, Tensor]]]) -> Bgr8:
    """Return image, guidance maps and alpha of some frames, one frame a row.

    As in figure 10 of Guo et al., "In-Context Matting", CVPR 2024. The maps are (1, 1, h, w) in
    0..1; dark blue is 0, yellow is 1.
    """
    cell = _cell([thumbnail for thumbnail, _ in rows])
    lines = []
    for thumbnail, maps in rows:
        height, width = thumbnail.source.shape[:2]
        colored = [heat(values, (width, height)) for values in maps.values()]
        row = _row([thumbnail.source, *colored, thumbnail.alpha], cell)
        lines += [_bar(_label(thumbnail), row.shape[1], _TEXT), row]
    first_maps = rows[0][1]
    names = ["image", *(name.replace("_", "-") for name in first_maps), "alpha"]
    title = np.hstack([_bar(name, cell[0] + _GAP, _TEXT) for name in names])
    # The last name has a gap behind it that the rows do not have.
    title = title[:, : lines[0].shape[1]]
    return _pad(np.vstack([title, *lines]))


def to_jpeg(picture: Bgr8) -> bytes:
    """Return the picture as a JPEG file."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


def _cell(thumbnails: Sequence[Thumbnail]) -> tuple[int, int]:
    """Return the width and height for every picture."""
    return _largest([thumbnail.source for thumbnail in thumbnails])


def _largest(pictures: Sequence[Bgr8]) -> tuple[int, int]:
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    return width, height


def _row(pictures: Sequence[Bgr8], cell: tuple[int, int]) -> Bgr8:
    """Return pictures in the middle of their cells, with gaps between them."""
    cell_width, cell_height = cell
    row = _plain(cell_height, len(pictures) * (cell_width + _GAP) - _GAP)
    for n, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        x = n * (cell_width + _GAP) + (cell_width - width) // 2
        y = (cell_height - height) // 2
        row[y : y + height, x : x + width] = picture
    return row


def _label(thumbnail: Thumbnail) -> str:
    return (
        f"{thumbnail.frame} {thumbnail.name}".strip() + f"  confidence {thumbnail.confidence:.2f}"
    )


def _bar(text: str, width: int, color: tuple[int, int, int]) -> Bgr8:
    """Return a line of text, cut if it is too long."""
    bar = _plain(_BAR, width)
    # The line of text stands on its base, 7 pixels above the lower edge.
    cv2.putText(bar, text, (3, _BAR - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)
    return bar


def heat(values: Tensor, size: tuple[int, int]) -> Bgr8:
    """Return a (1, 1, h, w) map in 0..1 in colours, dark blue to yellow, at a width and height."""
    codes = (
        (values.float().cpu().numpy().reshape(values.shape[-2:]) * 255)
        .round()
        .clip(0, 255)
        .astype(np.uint8)
    )
    enlarged = cv2.resize(codes, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.applyColorMap(enlarged, cv2.COLORMAP_VIRIDIS), np.uint8)


def _plain(height: int, width: int) -> Bgr8:
    return np.full((height, width, 3), _BACK, np.uint8)


def _pad(picture: Bgr8) -> Bgr8:
    bordered = cv2.copyMakeBorder(picture, _GAP, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=_BACK)
    return np.asarray(bordered, np.uint8)
