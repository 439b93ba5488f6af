"""Make movies whose frames carry their own number, so that no reader can be right by chance."""

from __future__ import annotations

import string
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

BITS = 8
"""Frame numbers up to 255 are drawn, one column a bit."""


def numbered_picture(number: int, width: int, height: int) -> np.ndarray:
    """Return a numbered picture, (H, W, 3) uint8.

    Its 8 columns are the bits, white for 1 and black for 0, the most significant left; the lower
    half is mid gray.
    """
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        picture[: height // 2, left:right] = 235 if number >> (BITS - 1 - bit) & 1 else 20
    return picture


def read_number(rgb: np.ndarray) -> int:
    """The number drawn into a (3, H, W) picture in 0..1."""
    _, height, width = rgb.shape
    row = rgb[:, height // 4, :].mean(0)
    return sum(
        int(row[width * (2 * bit + 1) // (2 * BITS)] > 0.5) << (BITS - 1 - bit)
        for bit in range(BITS)
    )


def write_movie(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (160, 96),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction = Fraction(25),
    times: list[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    sound: bool = False,
    pictures: list[np.ndarray] | None = None,
    aspect: Fraction | None = None,
    matrix: int = 1,
    durations: list[int] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encode numbered or given pictures; `times` are pts in `time_base` (default: one a frame)."""
    base = time_base or 1 / rate
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = stream.time_base = base
        if not pixel_format.startswith(("rgb", "gbr")):
            stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 1
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        stream.metadata.update(metadata or {})
        audio = out.add_stream("aac", rate=48000, layout="mono") if sound else None
        for index in range(frames):
            picture = pictures[index] if pictures else numbered_picture(index, *size)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame = frame.reformat(format=pixel_format, dst_colorspace={6: 5}.get(matrix, matrix))
            frame.colorspace = matrix
            frame.time_base, frame.pts = base, times[index] if times else index
            out.mux(_with_duration(stream.encode(frame), base, times, durations))
        out.mux(_with_duration(stream.encode(None), base, times, durations))
        if audio:
            _write_tone(out, audio, Fraction(frames) / rate)
    return path


def _with_duration(
    packets: list[av.Packet], base: Fraction, times: list[int] | None, durations: list[int] | None
) -> list[av.Packet]:
    for packet in packets if durations and times else []:
        packet.duration = round(
            durations[times.index(round(packet.pts * packet.time_base / base))]
            * base
            / packet.time_base
        )
    return packets


def _write_tone(
    out: av.container.OutputContainer, audio: av.AudioStream, seconds: Fraction
) -> None:
    samples = int(48000 * seconds)
    wave = (0.2 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48000)).astype(np.float32)
    for start in range(0, samples - samples % 1024, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def write_corpus(folder: Path, *, photographs: int, cutouts: int, alpha: np.ndarray) -> None:
    """Write photographs of coloured noise, and noise cut out by an alpha (S, S) uint8."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "cutouts").mkdir()
    for letter in string.ascii_lowercase[:photographs]:
        noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"photo{letter}.jpg"), cv2.resize(noise, (160, 120)))
    for n in range(cutouts):
        picture = rng.integers(0, 256, (*alpha.shape, 3), np.uint8)
        cv2.imwrite(str(folder / "cutouts" / f"disc{n}.jpg"), picture)
        cv2.imwrite(str(folder / "cutouts" / f"disc{n}_alpha.png"), alpha)
