"""RGB and alpha in 0..1 to the planes of a video frame, in float, rounded once."""

from __future__ import annotations

from typing import cast

import av
import cv2
import numpy as np
import torch
from av.video.plane import VideoPlane
from torch import Tensor

from vidmatte.color import yuv_to_rgb_affine
from vidmatte.frames import ColorTags
from vidmatte.view import LINEAR

_UNSPECIFIED, _RESERVED, _RGB, _BT709, _SRGB = 2, 3, 0, 1, 13
_MATRICES = {1: 1, 5: 6, 6: 6, 9: 9}
_LIMITED_RANGE, _FULL_RANGE = 1, 2


def output_tags(color: ColorTags, *, alpha_only: bool, full_range: bool) -> ColorTags:
    """Tags of an output: those of the source, and BT.709 where it has none, is RGB, or is a matte.

    The two BT.601 matrices are one; matrices that production codecs cannot name become BT.709 (the RGB stays the same).
    """
    if alpha_only:
        return ColorTags(_BT709, _BT709, _BT709, full_range)
    primaries = _BT709 if color.primaries in (_UNSPECIFIED, _RESERVED) else color.primaries
    is_srgb_image = color.matrix == _RGB and color.transfer == _SRGB
    # Scene-linear light goes through BT.709's curve, see `view.for_output`.
    transfer = _BT709 if color.transfer in (_UNSPECIFIED, LINEAR) or is_srgb_image else color.transfer
    return ColorTags(primaries, transfer, _MATRICES.get(color.matrix, _BT709), full_range)


def set_tags(owner: av.VideoFrame | av.VideoCodecContext, tags: ColorTags) -> None:
    """Write all four tags to a frame or an encoder; containers read one, bit streams the other."""
    owner.color_primaries = tags.primaries
    owner.color_trc = tags.transfer
    owner.colorspace = tags.matrix
    owner.color_range = _FULL_RANGE if tags.full_range else _LIMITED_RANGE


def premultiply(color: Tensor, alpha: Tensor, *, peak: int) -> Tensor:
    """Colour times alpha; where the code of alpha will be `peak`, colour stays as it is."""
    return color * torch.where(alpha * peak >= peak - 0.5, 1.0, alpha)


def video_frame(color: Tensor | None, alpha: Tensor, *, pixel_format: str, tags: ColorTags) -> av.VideoFrame:
    """A tagged frame of (3, H, W) display-referred colour and (H, W) alpha, or of alpha as luma without colour."""
    height, width = alpha.shape
    frame = av.VideoFrame(width, height, pixel_format)
    set_tags(frame, tags)
    bits = frame.format.components[0].bits
    if color is None:
        unit = 2.0 ** (bits - 8)
        low, span = (0.0, 2.0**bits - 1) if tags.full_range else (16 * unit, 219 * unit)
        neutral = 128 * unit
        values: list[Tensor | float] = [alpha * span + low, *[neutral] * (len(frame.planes) - 1)]
    else:
        values = [*_yuv(color, bits, tags), alpha * (2**bits - 1)]
    for plane, codes in zip(frame.planes, values, strict=True):
        _fill(plane, codes, bits)
    return frame


def _yuv(color: Tensor, bits: int, tags: ColorTags) -> list[Tensor]:
    """Three (H, W) planes of unrounded code values; the inverse of what a reader applies."""
    affine = yuv_to_rgb_affine(tags, bits)
    matrix = np.linalg.inv(affine[:, :3])
    offset = -matrix @ affine[:, 3]
    codes = torch.addmm(
        torch.from_numpy(offset).float()[:, None], torch.from_numpy(matrix).float(), color.reshape(3, -1)
    )
    return list(codes.view_as(color))


def _fill(plane: VideoPlane, codes: Tensor | float, bits: int) -> None:
    """Round code values into a plane; chroma of half size takes the mean of each 2 x 2 block (fewer at odd edges)."""
    # Through the buffer: VideoFrame.from_ndarray would hold the GIL while it copies.
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    samples = np.frombuffer(cast("bytes", plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    picture = samples[: plane.height, : plane.width]
    if isinstance(codes, float):
        picture[...] = codes
        return
    if codes.shape != picture.shape:
        codes = _half_size(codes)
    picture[...] = codes.round().clamp_(0, 2**bits - 1).numpy()


def _half_size(plane: Tensor) -> Tensor:
    """The mean of each 2 x 2 block of a plane, of fewer pixels at an odd edge."""
    height, width = plane.shape
    # A repeated last row or column changes no mean.
    even = cv2.copyMakeBorder(plane.numpy(), 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    halved = cv2.resize(even, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(halved)
