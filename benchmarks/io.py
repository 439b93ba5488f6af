"""Compare every output format with a plain ffmpeg command that does the same encode.

    python benchmarks/io.py

Frames of 1080p with grain; alpha is a ramp, hair and solid parts. Each format is written by
vidmatte from tensors and by ffmpeg from a raw file of 16 bits (32 for EXR), turn by turn, so that a
busy machine slows both. Errors are those of the first frame as a decoder returns it, in thousandths
of full scale: the largest of alpha, the mean of colour where alpha is above 0.02. MB/min counts 25
frames a second. The ratio is frames per second over those of ffmpeg, by the clock and, in brackets,
by processor time; formats that ffmpeg cannot write have none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import vidmatte
from vidmatte.frames import ColorTags
from vidmatte.imaging.yuv import tags_of, to_rgb
from vidmatte.write import FORMATS, Format, parse_output
from vidmatte.write.exr import to_linear

SAMPLE = Path(__file__).parents[1] / "vidmatte" / "sample" / "portrait.mp4"
SIZE = (1920, 1080)
RATE = Fraction(25)
TAGS = ColorTags(1, 1, 1)
PICTURES = 6
SLOW = ("libvpx-vp9", "libwebp_anim", "avif", "ffv1", "png")
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """What was measured of one format."""

    name: str
    form: Format
    alpha_error: float
    color_error: float | None
    size: float
    """Megabytes a minute."""
    speed: float
    """Frames per second."""
    ratio: float | None
    processor_ratio: float | None

    def __str__(self) -> str:
        """As a row of a table in Markdown."""
        color = "" if self.color_error is None else f"{self.color_error:.2f}"
        alpha = "" if self.form.over_black else f"{self.alpha_error:.2f}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} ({self.processor_ratio:.2f})"
        what = "alpha" if self.form.alpha_only else "colour"
        bits = self.form.bit_depth or ""
        return (
            f"| `{self.name}` {what} | {bits} | {alpha} | {color} "
            f"| {self.size:.0f} | {self.speed:.1f} | {ratio} |"
        )


def make_pictures() -> tuple[list[Tensor], Tensor]:
    """Return sample frames with fresh grain, (3, H, W) in 0..1, and an alpha: ramp, hair, solid."""
    rng = np.random.default_rng(0)
    with av.open(str(SAMPLE)) as container:
        frames = [
            frame.to_ndarray(format="rgb24")
            for frame in islice(container.decode(video=0), PICTURES)
        ]
    pictures = []
    for frame in frames:
        picture = cv2.resize(frame, SIZE, interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
        picture = np.clip(
            picture + rng.normal(0, 0.008, (SIZE[1], SIZE[0], 1)).astype(np.float32), 0, 1
        )
        pictures.append(torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))))
    alpha = np.zeros((SIZE[1], SIZE[0]), np.float32)
    alpha[: SIZE[1] // 4] = np.linspace(0, 1, SIZE[0])
    alpha[SIZE[1] // 2 :, SIZE[0] // 4 : -SIZE[0] // 4] = 1
    for _ in range(350):
        x, y, angle, length = rng.uniform((0, SIZE[1] / 4, 0, 50), (*SIZE, 6.28, 200))
        ends = [
            (int(x), int(y)),
            (int(x + length * np.cos(angle)), int(y + length * np.sin(angle))),
        ]
        strand = cv2.line(np.zeros(alpha.shape, np.uint8), *ends, 255, 1, cv2.LINE_AA)
        alpha = np.maximum(alpha, strand.astype(np.float32) / 255 * rng.uniform(0.35, 1))
    return pictures, torch.from_numpy(alpha)


def write(
    target: str, form: Format, pictures: Sequence[Tensor], alpha: Tensor, frames: int
) -> tuple[float, float]:
    """Seconds, and seconds of processor time, that vidmatte takes to write frames."""
    info = vidmatte.VideoInfo("clip", *SIZE, RATE, 1 / RATE, color=TAGS)
    began, worked = time.perf_counter(), time.process_time()
    parsed = parse_output(target, alpha_only=form.alpha_only)
    with vidmatte.create_outputs([parsed], like=info, overwrite=True) as out:
        for index in range(frames):
            source = vidmatte.FrameBatch(
                pictures[index % len(pictures)][None], (index,), (index,), (1,)
            )
            out.write(vidmatte.MatteBatch(source, alpha[None, None], (1.0,)))
    return time.perf_counter() - began, time.process_time() - worked


def ffmpeg_command(form: Format, raw: Path, target: Path, frames: int) -> list[str] | None:
    """Return ffmpeg's command for the same encode, None if it has no such encoder.

    Its input is frames of 16 bits (32 for EXR).
    """
    if form.codec == "avif" or (
        form.codec == "exr" and (form.alpha_only or form.options["compression"] != "zip")
    ):
        return None
    given = raw_format(form)
    size = f"{SIZE[0]}x{SIZE[1]}"
    source = [
        "-f",
        "rawvideo",
        "-pix_fmt",
        given,
        "-s",
        size,
        "-r",
        str(RATE),
        "-stream_loop",
        "-1",
        "-i",
        str(raw),
    ]
    options = dict(form.options)
    pixel_format = form.pixel_format
    if form.codec == "exr":
        options, pixel_format = (
            {"format": form.options["pixels"], "compression": "zip16"},
            "gbrapf32le",
        )
    elif form.container == "images":
        options = {"compression_level": "1"}
    words = [word for name, value in options.items() for word in (f"-{name}:v", value)]
    container = "image2" if form.container == "images" else form.container
    command = ["ffmpeg", "-v", "error", "-y", *source, "-frames:v", str(frames), "-c:v", form.codec]
    return [*command, *words, "-pix_fmt", pixel_format, "-an", "-f", container, str(target)]


def raw_format(form: Format) -> str:
    """The pixel format of the raw file that ffmpeg reads."""
    if form.codec == "exr":
        return "gbrapf32le"
    return "gray16le" if form.alpha_only else "rgba64le"


def write_raw(path: Path, form: Format, pictures: Sequence[Tensor], alpha: Tensor) -> None:
    """Frames for ffmpeg."""
    with open(path, "wb") as file:
        for picture in pictures:
            if form.codec == "exr":
                values = torch.cat([to_linear(picture, TAGS) * alpha, alpha[None]]).numpy()
                file.write(values[[1, 2, 0, 3]].tobytes())
                continue
            codes = (torch.cat([picture, alpha[None]]) * 65535).round().numpy().astype("<u2")
            file.write(
                (
                    codes[3] if form.alpha_only else np.ascontiguousarray(codes.transpose(1, 2, 0))
                ).tobytes()
            )


def run_ffmpeg(command: list[str]) -> tuple[float, float]:
    """Seconds, and seconds of processor time, that ffmpeg takes."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"{' '.join(command)} failed with status {status}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def errors(path: Path, form: Format, picture: Tensor, alpha: Tensor) -> tuple[float, float | None]:
    """Return the largest alpha error and mean visible-colour error of frame 0, in thousandths."""
    color, found = first_frame(path, form)
    alpha_error = 0.0 if found is None else float((found - alpha).abs().max())
    if color is None:
        return 1000 * alpha_error, None
    wanted = picture * alpha if form.over_black else picture
    if form.codec == "exr":
        wanted = to_linear(picture, TAGS) * alpha
    return 1000 * alpha_error, 1000 * float((color - wanted).abs()[:, alpha > 0.02].mean())


def first_frame(path: Path, form: Format) -> tuple[Tensor | None, Tensor | None]:
    """Colour and alpha of the first frame."""
    if form.codec == "exr":
        return first_exr(path)
    if form.codec == "png" and not form.is_movie:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        image = image if form.alpha_only else cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
        return split(torch.from_numpy(image.astype(np.float32) / 65535), form)
    if form.codec in ("avif", "libwebp_anim"):
        from PIL import Image

        with Image.open(path) as animation:
            return split(
                torch.from_numpy(np.asarray(animation.convert("RGBA"), np.float32) / 255), form
            )
    frame = decoded(path)
    if form.alpha_only:
        return None, torch.from_numpy(to_rgb(frame, tags_of(frame))[0]).clamp(0, 1)
    color = torch.from_numpy(to_rgb(frame, tags_of(frame)))
    return color, None if form.over_black else torch.from_numpy(alpha_plane(frame))


def split(image: Tensor, form: Format) -> tuple[Tensor | None, Tensor]:
    return (None, image) if form.alpha_only else (image[..., :3].permute(2, 0, 1), image[..., 3])


def first_exr(path: Path) -> tuple[Tensor | None, Tensor]:
    import OpenEXR

    channels = OpenEXR.File(str(path), separate_channels=True).channels()
    planes = {
        name: torch.from_numpy(channel.pixels.astype(np.float32))
        for name, channel in channels.items()
    }
    return (
        (None, planes["Y"])
        if "Y" in planes
        else (torch.stack([planes[name] for name in "RGB"]), planes["A"])
    )


def decoded(path: Path) -> av.VideoFrame:
    """The first frame; VP9 by the decoder that knows alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name != "vp9":
            return next(container.decode(stream))
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        return next(frame for packet in container.demux(stream) for frame in decoder.decode(packet))


def alpha_plane(frame: av.VideoFrame) -> Array:
    """The last component of a frame in 0..1."""
    bits = frame.format.components[3].bits
    if len(frame.planes) == 1:
        values = frame.reformat(format="rgba64le" if bits > 8 else "rgba").to_ndarray()[..., 3]
    else:
        plane = frame.planes[3]
        dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
        rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
        values = rows[: plane.height, : plane.width]
    alpha: Array = values.astype(np.float32) / (2**bits - 1)
    return alpha


def measure(
    choices: str, form: Format, folder: Path, pictures: list[Tensor], alpha: Tensor, frames: int
) -> Row:
    """One row: both encoders in turns, twice."""
    ending = f"{'%04d' if not form.is_movie else ''}{form.extension}"
    mine, theirs = folder / f"mine{ending}", folder / f"theirs{ending}"
    raw = folder / "frames.raw"
    write_raw(raw, form, pictures, alpha)
    command = ffmpeg_command(form, raw, theirs, frames) if shutil.which("ffmpeg") else None
    times = []
    for _ in range(2):
        ours = write(f"{mine}:{choices}", form, pictures, alpha, frames)
        other = run_ffmpeg(command) if command else (0.0, 0.0)
        times.append((*ours, *other))
    clock, processor, other_clock, other_processor = np.sum(times, 0)
    written = sorted(folder.glob(f"mine*{form.extension}"))
    size = sum(path.stat().st_size for path in written) / frames * 60 * float(RATE) / 1e6
    row = Row(
        f"{form.extension}:{choices}",
        form,
        *errors(written[0], form, pictures[0], alpha),
        size,
        2 * frames / clock,
        other_clock / clock if command else None,
        other_processor / processor if command else None,
    )
    for path in folder.iterdir():
        path.unlink()
    return row


@click.command()
@click.option("--only", default="", help="Only rows whose name holds this, as in '.mov:png alpha'.")
@click.option("--frames", default=16, help="Frames of each format; a quarter of slow ones.")
def main(only: str, frames: int) -> None:
    """Measure the formats."""
    pictures, alpha = make_pictures()
    extra = {
        "libvpx-vp9": ["vp9,fast", "vp9,lossless", "vp9,crf=30"],
        "libwebp_anim": ["webp,lossless"],
        "exr": ["exr,dwaa", "exr,float"],
    }
    click.echo("| format | bits | alpha error | colour error | MB/min | frames/s | ratio |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        for form in FORMATS:
            more = [] if form.alpha_only else extra.get(form.codec, [])
            for choices in [form.name, *more]:
                if (
                    only
                    not in f"{form.extension}:{choices} {'alpha' if form.alpha_only else 'colour'}"
                ):
                    continue
                chosen = parse_output(
                    f"a%d{form.extension}:{choices}", alpha_only=form.alpha_only
                ).format
                count = max(4, frames // 4) if form.codec in SLOW else frames
                click.echo(measure(choices, chosen, Path(name), pictures, alpha, count))


if __name__ == "__main__":
    main()
