"""Convert RGB and alpha in 0..1 to the planes of a video frame, in float, rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from av.video.plane import VideoPlane
from torch import Tensor

from vidmatte.frames import ColorTags
from vidmatte.imaging.transfer import LINEAR
from vidmatte.imaging.yuv import yuv_to_rgb_affine

# Numbers of ITU-T H.273.
_RGB = 0
_BT709 = 1
_UNSPECIFIED = 2
_RESERVED = 3
_SRGB = 13
_MATRICES = {1: 1, 5: 6, 6: 6, 9: 9}
"""Matrices known to production codecs, by those of sources; 5 and 6 are BT.601."""
# AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG of FFmpeg.
_LIMITED_RANGE = 1
_FULL_RANGE = 2
_STRIP = 64
"""Rows that are converted together, an even number."""


def output_tags(
    color: ColorTags, *, alpha_only: bool, full_range: bool, is_rgb: bool = False
) -> ColorTags:
    """Return the tags of an output: those of the source, or BT.709 if it has none or is a matte.

    The two BT.601 matrices are equal; matrices unknown to production codecs become BT.709, and RGB
    stays the same. Outputs in RGB have no matrix tag: some readers would apply one, even the number
    for RGB.
    """
    if alpha_only:
        # A matte has no colour: all-BT.709 keeps players from converting its code values.
        return ColorTags(_BT709, _BT709, _BT709, full_range)
    primaries = _BT709 if color.primaries in (_UNSPECIFIED, _RESERVED) else color.primaries
    is_srgb_image = color.matrix == _RGB and color.transfer == _SRGB
    # Scene-linear light goes through BT.709's curve, see `imaging.display.for_output`.
    transfer = (
        _BT709 if color.transfer in (_UNSPECIFIED, LINEAR) or is_srgb_image else color.transfer
    )
    matrix = _UNSPECIFIED if is_rgb else _MATRICES.get(color.matrix, _BT709)
    return ColorTags(primaries, transfer, matrix, full_range)


def set_tags(owner: av.VideoFrame | av.VideoCodecContext, tags: ColorTags) -> None:
    """Write all four tags to a frame or an encoder; containers read one, bit streams the other."""
    owner.color_primaries = tags.primaries
    owner.color_trc = tags.transfer
    owner.colorspace = tags.matrix
    owner.color_range = _FULL_RANGE if tags.full_range else _LIMITED_RANGE


def premultiply(color: Tensor, alpha: Tensor, *, max_code: int) -> Tensor:
    """Return colour times alpha; pixels with alpha rounding to `max_code` are unchanged."""
    # An alpha of 0.99999 is stored as 1, so its colour must not be darkened either.
    return color * torch.where(alpha * max_code >= max_code - 0.5, 1.0, alpha)


def video_frame(
    color: Tensor | None,
    alpha: Tensor,
    *,
    pixel_format: str,
    tags: ColorTags,
    zero_rgb_where_transparent: bool = False,
) -> av.VideoFrame:
    """Return a tagged frame of colour and alpha, or of alpha as luma.

    Args:
        color: (3, H, W) display-referred colour in 0..1; None to write alpha as luma.
        alpha: (H, W) in 0..1; ignored if the pixel format has no alpha and there is colour.
        pixel_format: FFmpeg's name.
        tags: Colour tags; matrix and range decide how colour is converted.
        zero_rgb_where_transparent: See `packed_codes`.
    """
    height, width = alpha.shape
    frame = av.VideoFrame(width, height, pixel_format)
    set_tags(frame, tags)
    # All components of the formats in FORMATS have equal depth.
    bits = frame.format.components[0].bits
    max_code = 2**bits - 1
    if color is not None and frame.format.is_rgb:
        _fill_rgb(frame, color, alpha, zero_rgb_where_transparent=zero_rgb_where_transparent)
        return frame
    # In strips that stay in the processor's cache between the operations.
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        values: Sequence[Tensor | float] = _gray(alpha[rows], bits, tags)
        if color is not None:
            values = [*_yuv(color[:, rows], bits, tags), alpha[rows] * max_code]
        # A format without chroma, or without alpha, has fewer planes than there are values.
        values = values[: len(frame.planes)]
        for plane, code_values in zip(frame.planes, values, strict=True):
            _fill(plane, code_values, frame.format, rows)
    return frame


def _gray(alpha: Tensor, bits: int, tags: ColorTags) -> list[Tensor | float]:
    """Return unrounded code values of alpha as luma, and those of the two neutral chroma planes."""
    unit = 2.0 ** (bits - 8)  # one 8-bit code value
    neutral = 128 * unit
    if tags.full_range:
        return [alpha * (2**bits - 1), neutral, neutral]
    # Limited range: black at 16 and white at 235, in 8 bits (ITU-R BT.601, 709 and 2020).
    return [alpha * (219 * unit) + 16 * unit, neutral, neutral]


def _yuv(color: Tensor, bits: int, tags: ColorTags) -> list[Tensor]:
    """Return three (H, W) planes of unrounded code values; the inverse of a reader's conversion."""
    affine = yuv_to_rgb_affine(tags, bits)
    matrix = np.linalg.inv(affine[:, :3])
    offset = -matrix @ affine[:, 3]
    code_values = torch.addmm(
        torch.from_numpy(offset).float()[:, None],
        torch.from_numpy(matrix).float(),
        color.reshape(3, -1),
    )
    return list(code_values.view_as(color))


def packed_codes(
    color: Tensor,
    alpha: Tensor,
    *,
    order: str,
    dtype: npt.DTypeLike,
    zero_rgb_where_transparent: bool = False,
) -> npt.NDArray[Any]:
    """Return colour and alpha as (H, W, 4) code values.

    Args:
        color: (3, H, W) in 0..1.
        alpha: (H, W) in 0..1.
        order: Of the channels, such as "bgra".
        dtype: uint8 or uint16; its range is the range of code values.
        zero_rgb_where_transparent: Clear the colour of pixels with an alpha code of 0.
    """
    max_code = np.iinfo(dtype).max
    code_values = [_rounded(plane * max_code, max_code).astype(dtype) for plane in (*color, alpha)]
    if zero_rgb_where_transparent:
        visible = code_values[3] > 0
        code_values[:3] = [plane * visible for plane in code_values[:3]]
    packed: npt.NDArray[Any] = cv2.merge([code_values["rgba".index(channel)] for channel in order])
    return packed


def with_width(planes: Tensor, width: int) -> Tensor:
    """Return (C, H, W) planes scaled to another width, without overshoot."""
    height, old_width = planes.shape[1:]
    if width == old_width:
        return planes
    # Area averaging and linear interpolation: alpha must not leave 0..1.
    method = cv2.INTER_AREA if width < old_width else cv2.INTER_LINEAR
    scaled = [cv2.resize(plane, (width, height), interpolation=method) for plane in planes.numpy()]
    return torch.from_numpy(np.stack(scaled))


def _fill_rgb(
    frame: av.VideoFrame, color: Tensor, alpha: Tensor, *, zero_rgb_where_transparent: bool
) -> None:
    """Round red, green, blue and alpha into one plane each, or into one packed plane."""
    samples, max_code = _samples(frame.planes[0], frame.format)
    if len(frame.planes) > 1:
        red, green, blue = color
        # FFmpeg's planar order, gbrap.
        for plane, values in zip(frame.planes, (green, blue, red, alpha), strict=True):
            _fill(plane, values * max_code, frame.format, slice(0, frame.height))
        return
    # Packed formats in big-endian (rgba64be): assigning converts the byte order.
    dtype = samples.dtype.newbyteorder("=")
    packed = packed_codes(
        color,
        alpha,
        order=frame.format.name[:4],
        dtype=dtype,
        zero_rgb_where_transparent=zero_rgb_where_transparent,
    )
    # Lines of a plane are padded to the alignment of the codec.
    samples[:, : 4 * frame.width] = packed.reshape(frame.height, -1)


def _fill(
    plane: VideoPlane, code_values: Tensor | float, form: av.VideoFormat, rows: slice
) -> None:
    """Round code values of some rows of a frame into a plane.

    Subsampled chroma is averaged around its samples; `rows` begin with an even one.
    """
    samples, max_code = _samples(plane, form)
    picture = samples[: plane.height, : plane.width]
    if plane.height < form.height:
        rows = slice(rows.start // 2, -(-rows.stop // 2))
    picture = picture[rows]
    if isinstance(code_values, float):
        picture[...] = code_values
        return
    picture[...] = _rounded(_subsampled(code_values, picture.shape), max_code)


def _samples(plane: VideoPlane, form: av.VideoFormat) -> tuple[npt.NDArray[np.generic], int]:
    """Return a view of all samples of a plane, padding included, and the largest code value."""
    # Through the buffer: VideoFrame.from_ndarray would hold the GIL while it copies.
    bits = form.components[0].bits
    wide = ">u2" if form.name.endswith("be") else "<u2"
    dtype = np.dtype("u1" if bits <= 8 else wide)
    samples: npt.NDArray[np.generic] = np.frombuffer(cast("bytes", plane), dtype)
    return samples.reshape(-1, plane.line_size // dtype.itemsize), 2**bits - 1


def _rounded(code_values: Tensor, max_code: int) -> npt.NDArray[np.float32]:
    rounded: npt.NDArray[np.float32] = code_values.round().clamp_(0, max_code).numpy()
    return rounded


def _subsampled(plane: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a plane of code values at the size of a chroma plane.

    Samples lie as in MPEG-2 and H.264 (ITU-T H.273, chroma sample location 0). Across, a sample
    lies on every second pixel: it takes half of that and a quarter of each neighbour. Down, it lies
    between two rows: it takes their mean.
    """
    height, width = shape
    if width < plane.shape[1]:
        middle = plane[:, ::2]
        right = (
            plane[:, 1::2]
            if plane.shape[1] % 2 == 0
            else torch.cat([plane[:, 1::2], plane[:, -1:]], 1)
        )
        left = torch.cat([plane[:, :1], right[:, :-1]], 1)
        plane = (middle * 2 + left + right) / 4
    if height < plane.shape[0]:
        below = plane[1::2] if plane.shape[0] % 2 == 0 else torch.cat([plane[1::2], plane[-1:]])
        plane = (plane[::2] + below) / 2
    return plane
