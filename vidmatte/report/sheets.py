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
REFERENCE, SUGGESTED = (110, 210, 120), (60, 160, 255)
"""Label colours (blue, green, red) of marked frames and of suggested ones."""
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
        kind, color = "", _TEXT
        if thumbnail.frame in suggested:
            kind, color = "  suggested", SUGGESTED
        if thumbnail.frame in references:
            kind, color = "  reference", REFERENCE
        row = _row(thumbnail.pictures, cell)
        tiles.append(_pad(np.vstack([_bar(_label(thumbnail) + kind, row.shape[1], color), row])))
    columns = max(1, min(len(tiles), _WIDTH // tiles[0].shape[1]))
    tiles += [_plain(*tiles[0].shape[:2])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return _pad(np.vstack(rows))


def strip(thumbnail: Thumbnail) -> Bgr8:
    """Return source, alpha and composite of one frame side by side."""
    return _row(thumbnail.pictures, _cell([thumbnail]))


def side_by_side(pictures: Sequence[Bgr8]) -> Bgr8:
    """Return pictures of any size beside each other."""
    heights, widths = zip(*(picture.shape[:2] for picture in pictures), strict=True)
    return _row(pictures, (max(widths), max(heights)))


def guidance_sheet(rows: Sequence[tuple[Thumbnail, Mapping[str, Tensor]]]) -> Bgr8:
    """Return image, guidance maps and alpha of some frames, one frame a row.

    As in figure 10 of Guo et al., "In-Context Matting", CVPR 2024. The maps are (1, 1, h, w) in
    0..1; dark blue is 0, yellow is 1.
    """
    cell = _cell([thumbnail for thumbnail, _ in rows])
    lines = []
    for thumbnail, maps in rows:
        colored = [heat(values, thumbnail.source.shape[1::-1]) for values in maps.values()]
        row = _row([thumbnail.source, *colored, thumbnail.alpha], cell)
        lines += [_bar(_label(thumbnail), row.shape[1], _TEXT), row]
    names = ["image", *(name.replace("_", "-") for name in rows[0][1]), "alpha"]
    title = np.hstack([_bar(name, cell[0] + _GAP, _TEXT) for name in names])
    return _pad(np.vstack([title[:, : lines[0].shape[1]], *lines]))


def to_jpeg(picture: Bgr8) -> bytes:
    """Return the picture as a JPEG file."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


def _cell(thumbnails: Sequence[Thumbnail]) -> tuple[int, int]:
    """Return the width and height that hold every picture."""
    heights, widths = zip(*(thumbnail.source.shape[:2] for thumbnail in thumbnails), strict=True)
    return max(widths), max(heights)


def _row(pictures: Sequence[Bgr8], cell: tuple[int, int]) -> Bgr8:
    """Return pictures in the middle of their cells, with gaps between them."""
    row = _plain(cell[1], len(pictures) * (cell[0] + _GAP) - _GAP)
    for n, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        x, y = n * (cell[0] + _GAP) + (cell[0] - width) // 2, (cell[1] - height) // 2
        row[y : y + height, x : x + width] = picture
    return row


def _label(thumbnail: Thumbnail) -> str:
    return (
        f"{thumbnail.frame} {thumbnail.name}".strip() + f"  confidence {thumbnail.confidence:.2f}"
    )


def _bar(text: str, width: int, color: tuple[int, int, int]) -> Bgr8:
    """Return a line of text, cut if it is too long."""
    bar = _plain(_BAR, width)
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
