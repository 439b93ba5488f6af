"""Decoded YUV to RGB, exactly.

swscale's default conversion darkens the picture by one to two code values, so the matrix is applied
here, in float32. RGB with more than 8 bits goes through swscale's newer conversion graph, which
needs a flag that its own documentation calls unstable. So that is tested on known patches once per
process, and plain integers replace it if it is not right.
"""

from __future__ import annotations

import functools
import math
from typing import cast

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from av.video.plane import VideoPlane

from vidmatte.errors import ReadError
from vidmatte.frames import ColorTags
from vidmatte.imaging.arrays import Pixels
from vidmatte.imaging.frame_memory import frame_memory

KR_KB = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""Luma weights of red and blue by H.273 matrix: BT.709, FCC, BT.601 (twice), SMPTE 240M,
BT.2020."""

_PALETTED = ("pal8", "monow", "monob")
_UNSPECIFIED = 2
_LIMITED_RANGE, _FULL_RANGE = 1, 2
_BICUBIC, _ACCURATE, _UNSTABLE = 4, 1 << 18, 1 << 20
_EXACT_FLAGS = _BICUBIC | _ACCURATE | _UNSTABLE
_PLANAR = {
    (0, 0): "yuv444p",
    (1, 0): "yuv422p",
    (1, 1): "yuv420p",
    (2, 0): "yuv411p",
    (2, 2): "yuv410p",
    (0, 1): "yuv440p",
}
"""Formats of three planes by the binary logarithm of chroma subsampling, across and down."""
_LEFT = 1
_SITING = {
    _LEFT: (0.0, 0.5),  # MPEG-2, H.264 and later
    2: (0.5, 0.5),  # centre: JPEG, MPEG-1
    3: (0.0, 0.0),  # top left: HDR on discs
    4: (0.5, 0.0),
    5: (0.0, 1.0),
    6: (0.5, 1.0),
}
"""Distance of the first chroma sample from the first of its luma samples, across and down, as a
share of the way to the last of them; by AVChromaLocation."""
_NARROWEST = 64
"""Width from which swscale's exact conversion is used: it crashes on frames of 16 pixels or
less."""
_TOLERANCE = 0.01 / 255
_STRIP = 64
"""Rows that are converted together."""
# All conversions below run on one thread: with several, the threads of this swscale write over
# each other's rows.


def tags_of(frame: av.VideoFrame) -> ColorTags:
    """Return the colour tags of a decoded frame, the matrix resolved.

    Untagged frames of 720 lines and more are BT.709, others BT.601.

    Raises:
        ReadError: For a matrix without a known conversion, such as ICtCp or YCgCo.
    """
    matrix = int(frame.colorspace)
    if frame.format.name in _PALETTED:
        return ColorTags(matrix=0, full_range=True)
    if frame.format.is_rgb or _is_gray(frame):
        # RGB has no matrix (0); gray is luma alone: only its range counts, and it is full
        # unless tagged otherwise.
        return ColorTags(
            int(frame.color_primaries),
            int(frame.color_trc),
            0 if frame.format.is_rgb else 1,
            _is_full(frame),
        )
    assumed = matrix == _UNSPECIFIED
    if assumed:
        matrix = 1 if max(frame.height, frame.width * 9 // 16) >= 720 else 6
    if matrix not in KR_KB:
        raise ReadError(
            f"colour matrix {matrix} (ITU-T H.273) is not supported: convert the clip to BT.709 or "
            f"BT.2020"
        )
    return ColorTags(
        int(frame.color_primaries), int(frame.color_trc), matrix, _is_full(frame), assumed
    )


def _is_gray(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya8", "ya16"))


def _is_full(frame: av.VideoFrame) -> bool:
    if _is_gray(frame):
        return int(frame.color_range) != _LIMITED_RANGE
    return (
        int(frame.color_range) == _FULL_RANGE
        or frame.format.name.startswith("yuvj")
        or frame.format.is_rgb
    )


def to_rgb(frame: av.VideoFrame, tags: ColorTags) -> Pixels:
    """Return display-referred RGB of a decoded frame.

    Chroma is brought to full size by linear interpolation, see `_enlarge`. The matrix is exact to
    0.01 of an 8-bit code value.

    Returns:
        (3, H, W) float32 in 0..1; super-whites and the like lie beyond.
    """
    rgb: Pixels
    if frame.format.name in _PALETTED:
        rgb = _separate_rgb(frame.reformat(format="rgb24", threads=1))
    elif frame.format.is_rgb:
        rgb = _separate_rgb(frame)
    elif _is_gray(frame):
        rgb = np.stack([_gray(frame, tags)] * 3)
    else:
        rgb = _matrix_in_float(frame, tags)
    return rgb


def has_alpha(frame: av.VideoFrame) -> bool:
    """Return whether the pixel format of a decoded frame has alpha."""
    return any(component.is_alpha for component in frame.format.components)


def opacity(frame: av.VideoFrame, tags: ColorTags) -> Pixels:
    """Return the matte (H, W) in 0..1 of a decoded frame: its alpha, or its brightest channel."""
    if has_alpha(frame):
        return _alpha(frame)
    if frame.format.is_rgb or frame.format.name in _PALETTED:
        return np.asarray(to_rgb(frame, tags).max(axis=0).clip(0, 1))
    if _is_gray(frame):
        return np.asarray(_gray(frame, tags).clip(0, 1))
    bits = frame.format.components[0].bits
    luma, *chroma = _planes(_planar(frame), np.uint8 if bits <= 8 else np.uint16)
    neutral = 1 << (bits - 1)
    if any((plane != neutral).any() for plane in chroma):
        return np.asarray(to_rgb(frame, tags).max(axis=0).clip(0, 1))
    return np.asarray(_in_range(luma, bits, tags).clip(0, 1))


def _alpha(frame: av.VideoFrame) -> Pixels:
    bits = frame.format.components[0].bits
    if bits > 16:
        raise ReadError(
            f"alpha of the pixel format {frame.format.name} is not read; convert the clip, to "
            f"ProRes say"
        )
    if len(frame.planes) < len(frame.format.components):  # beside the colours of its pixel
        frame = frame.reformat(format="gbrap" if bits <= 8 else "gbrap16le", threads=1)
    elif frame.format.name.endswith("be"):
        frame = frame.reformat(format=frame.format.name[:-2] + "le", threads=1)
    alpha = _planes(frame, np.uint8 if bits <= 8 else np.uint16)[-1]
    return alpha.astype(np.float32) / np.float32(2**bits - 1)


def _planes(frame: av.VideoFrame, dtype: type[np.generic]) -> list[npt.NDArray[np.generic]]:
    """Return views of the planes without the padding at the ends of their rows."""
    return [
        _rows(plane, dtype)[: component.height, : component.width]
        for plane, component in zip(frame.planes, frame.format.components, strict=True)
    ]


def _rows(plane: VideoPlane, dtype: type[np.generic]) -> npt.NDArray[np.generic]:
    # A plane is a buffer.
    samples: npt.NDArray[np.generic] = np.frombuffer(cast("bytes", plane), dtype)
    return samples.reshape(-1, plane.line_size // np.dtype(dtype).itemsize)


def _gray(frame: av.VideoFrame, tags: ColorTags) -> Pixels:
    """Return luma (H, W) of a frame without chroma."""
    bits = frame.format.components[0].bits
    if frame.format.name.startswith("ya") or frame.format.name.endswith("be"):
        frame = frame.reformat(format="gray" if bits <= 8 else f"gray{bits}le", threads=1)
    (luma,) = _planes(frame, np.uint8 if bits <= 8 else np.uint16)
    return _in_range(luma, bits, tags)


def _in_range(luma: npt.NDArray[np.generic], bits: int, tags: ColorTags) -> Pixels:
    """Return luma codes as 0..1; codes beyond the video range lie beyond."""
    # Limited range: black at 16 and white at 235, in 8 bits.
    low, span = (0, 2**bits - 1) if tags.full_range else (16 << (bits - 8), 219 << (bits - 8))
    return (luma.astype(np.float32) - np.float32(low)) / np.float32(span)


def _without_subsampling(frame: av.VideoFrame, tags: ColorTags) -> av.VideoFrame:
    """Return the frame as yuv444p16le, chroma at the size of luma.

    Code values are shifted up, not stretched, for both ranges.
    """
    planes = _planes(
        _planar(frame), np.uint8 if frame.format.components[0].bits <= 8 else np.uint16
    )[:3]
    full = av.VideoFrame(frame.width, frame.height, "yuv444p16le")
    shift = 16 - frame.format.components[0].bits
    for plane, target in zip(planes, _planes(full, np.uint16), strict=True):
        deep = np.left_shift(plane, shift, dtype=np.uint16)
        target[:] = (
            deep
            if deep.shape == target.shape
            else _enlarge(deep, target.shape, location=tags.chroma_location)
        )
    return full


def _planar(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the frame in three planes of little-endian samples; copies only other layouts."""
    luma, chroma = frame.format.components[:2]
    sampling = (
        round(math.log2(luma.width / chroma.width)),
        round(math.log2(luma.height / chroma.height)),
    )
    name = _PLANAR[sampling] + ("" if luma.bits <= 8 else f"{luma.bits}le")
    if frame.format.name.replace("yuva", "yuv").replace("yuvj", "yuv") == name:
        return frame
    if int(frame.color_range) == _FULL_RANGE:
        frame.color_range = (
            _LIMITED_RANGE  # the range is ours to apply: swscale would stretch luma, but not chroma
        )
    return frame.reformat(format=name, threads=1)


def _enlarge(
    chroma: Pixels | npt.NDArray[np.uint16], shape: tuple[int, ...], *, location: int
) -> npt.NDArray[np.generic]:
    """Return chroma at the size of luma, interpolated linearly between its samples.

    Args:
        chroma: (h, w) subsampled samples.
        shape: Height and width of luma.
        location: AVChromaLocation, see `ColorTags.chroma_location`. It applies to directions with
            half as many samples; coarser samples lie left, and between the rows.
    """
    height, width = shape
    step_x = 2 ** round(math.log2(width / chroma.shape[1]))
    step_y = 2 ** round(math.log2(height / chroma.shape[0]))
    share_x, share_y = _SITING.get(location, _SITING[_LEFT])
    # Position of the first sample of chroma, in pixels of luma, taken from each pixel of luma.
    place = np.array(
        [
            [1 / step_x, 0, -share_x * (step_x - 1) / step_x],
            [0, 1 / step_y, -share_y * (step_y - 1) / step_y],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        chroma, place, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _matrix_in_swscale(frame: av.VideoFrame, tags: ColorTags) -> Pixels:
    # swscale numbers both BT.601 systems 5
    return _separate(
        _without_subsampling(frame, tags), matrix=5 if tags.matrix == 6 else tags.matrix
    )


def _separate(frame: av.VideoFrame, *, matrix: int | None) -> Pixels:
    frame = frame.reformat(
        format="gbrpf32le", src_colorspace=matrix, interpolation=_EXACT_FLAGS, threads=1
    )
    green, blue, red = _planes(frame, np.float32)
    rgb = frame_memory((3, *red.shape)).numpy()
    np.stack([red, green, blue], out=rgb)
    return cast("Pixels", rgb)


def _separate_rgb(frame: av.VideoFrame) -> Pixels:
    if frame.width >= _NARROWEST and exact_conversion_works():
        return _separate(frame, matrix=None)
    deep = frame.format.components[0].bits > 8
    packed = frame.reformat(format="rgb48le" if deep else "rgb24", threads=1).to_ndarray()
    return np.ascontiguousarray(packed.transpose(2, 0, 1), np.float32) / np.float32(
        65535 if deep else 255
    )


def yuv_to_rgb_affine(tags: ColorTags, bits: int) -> npt.NDArray[np.float64]:
    """Return the 3 x 4 matrix from code values (Y, Cb, Cr, 1) to R'G'B' in 0..1.

    ITU-R BT.709-6, items 3 and 4, for the matrix and range of `tags` and a bit depth.
    """
    kr, kb = KR_KB[tags.matrix]
    kg = 1 - kr - kb
    to_rgb_matrix = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    unit = 2.0 ** (bits - 8)
    offset = np.array([0.0 if tags.full_range else 16 * unit, 128 * unit, 128 * unit])
    span = np.full(3, 2.0**bits - 1) if tags.full_range else np.array([219, 224, 224]) * unit
    linear = to_rgb_matrix / span
    return np.hstack([linear, -(linear @ offset)[:, None]])


def _matrix_in_float(frame: av.VideoFrame, tags: ColorTags) -> Pixels:
    bits = frame.format.components[0].bits
    dtype = np.uint8 if bits <= 8 else np.uint16
    luma, *chroma = _planes(_planar(frame), dtype)[:3]
    # Around the neutral value, so that chroma adds no constant.
    neutral = 2.0 ** (bits - 1)
    blue_difference, red_difference = (
        torch.from_numpy(_enlarge_float(plane, neutral, luma.shape, tags)) for plane in chroma
    )
    linear = yuv_to_rgb_affine(tags, bits)[:, :3].tolist()
    scale = linear[0][0]
    black = 0.0 if tags.full_range else 16 * 2.0 ** (bits - 8)
    rgb = frame_memory((3, *luma.shape))
    # In strips that stay in the processor's cache between the operations.
    for top in range(0, luma.shape[0], _STRIP):
        rows = slice(top, top + _STRIP)
        gray = torch.from_numpy(luma[rows].astype(np.float32))
        gray.mul_(scale).sub_(scale * black)
        red, green, blue = rgb[:, rows]
        torch.add(gray, red_difference[rows], alpha=linear[0][2], out=red)
        torch.add(gray, blue_difference[rows], alpha=linear[2][1], out=blue)
        torch.add(gray, blue_difference[rows], alpha=linear[1][1], out=green)
        green.add_(red_difference[rows], alpha=linear[1][2])
    return cast("Pixels", rgb.numpy())


def _enlarge_float(
    chroma: npt.NDArray[np.generic], neutral: float, shape: tuple[int, ...], tags: ColorTags
) -> Pixels:
    """Return chroma less its neutral value at the size of luma, see `_enlarge`."""
    plane = chroma.astype(np.float32)
    plane -= np.float32(neutral)
    height, width = shape
    rows, columns = plane.shape
    if (rows, columns) == shape:
        return plane
    is_left = tags.chroma_location in (0, _LEFT)
    is_halved = columns == -(-width // 2) and rows in (height, -(-height // 2))
    if not (is_left and is_halved):
        return np.asarray(_enlarge(plane, shape, location=tags.chroma_location), np.float32)
    # The usual layout, several times as fast as the general one. Down, samples lie between rows.
    if rows != height:
        taller = cv2.resize(plane, (columns, 2 * rows), interpolation=cv2.INTER_LINEAR)
        plane = np.asarray(taller, np.float32)
    # Across, a sample lies on every second pixel, and the others take the mean of two.
    between = plane.copy()
    between[:, :-1] += plane[:, 1:]
    between[:, :-1] *= np.float32(0.5)
    pairs = cv2.merge([plane, between])
    return np.asarray(pairs.reshape(len(plane), -1)[:height, :width], np.float32)


@functools.cache
def exact_conversion_works() -> bool:
    """Return whether this FFmpeg converts known patches to within 0.01 of an 8-bit code value.

    Tried once.
    """
    codes = np.array(
        [
            [16, 128, 128],
            [235, 128, 128],
            [81, 90, 200],
            [145, 54, 34],
            [41, 200, 110],
            [180, 120, 140],
        ]
    )
    for matrix in (1, 6, 9):
        frame = av.VideoFrame(len(codes) * 16, 16, "yuv444p")
        frame.color_range = 1
        for plane, values in zip(frame.planes, codes.T, strict=True):
            _rows(plane, np.uint8)[:, : len(codes) * 16] = np.repeat(values, 16)
        tags = ColorTags(matrix=matrix)
        found = _matrix_in_swscale(frame, tags)[:, 8, 8::16].T
        wanted = codes @ yuv_to_rgb_affine(tags, 8)[:, :3].T + yuv_to_rgb_affine(tags, 8)[:, 3]
        if np.abs(found - wanted).max() > _TOLERANCE:
            return False
    return True
