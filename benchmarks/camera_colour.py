"""Mattes of the sample clip as camera footage beside those of the clip itself.

    python benchmarks/camera_colour.py [--frames 25]

The clip is turned into LogC3, S-Log3 (10 bits, lossless) and ACEScg (half-float EXR) by the view of
the ACES studio config backwards, as if a camera had recorded the scene that the view shows so. Each
is matted with the marks of the sample. J and MAD are those against the exact alpha; the last column
says what leaving --input-space out costs. Needs the extras `exr` and `ocio`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenEXR
import PyOpenColorIO
from numpy.typing import NDArray

import vidmatte
from vidmatte.imaging import ocio
from vidmatte.imaging.primaries import AP1
from vidmatte.metrics import mad, region_overlap
from vidmatte.prompts.files import load_prompts
from vidmatte.read import open_video

SPACES = ("ARRI LogC3 (EI800)", "S-Log3 S-Gamut3.Cine", "ACEScg")
Frames = Sequence[NDArray[np.float32]]


def sample(name: str, count: int) -> Frames:
    """Return (3, H, W) frames of a file of the sample."""
    with as_file(files("vidmatte.sample") / name) as path, open_video(path) as video:
        return [
            frame.rgb.clip(0, 1) for _, frame in zip(range(count), video.decode(), strict=False)
        ]


def in_space(frames: Frames, name: str) -> Iterator[NDArray[np.float32]]:
    config = PyOpenColorIO.Config.CreateFromFile(ocio.BUILT_IN)
    display = config.getDefaultDisplay()
    view = config.getDefaultView(display, name)
    transform = PyOpenColorIO.DisplayViewTransform(src=name, display=display, view=view)
    inverse = config.getProcessor(transform, PyOpenColorIO.TRANSFORM_DIR_INVERSE)
    processor = inverse.getDefaultCPUProcessor()
    for frame in frames:
        planes = np.array(frame, np.float32, order="C")
        processor.apply(PyOpenColorIO.PlanarImageDesc(*planes, *planes.shape[:0:-1]))
        yield planes


def write_movie(path: Path, frames: Frames) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames[0].shape[1:]
        stream.pix_fmt = "gbrp10le"
        for picture in frames:
            codes = np.round(picture.clip(0, 1) * 1023).astype(np.uint16)
            frame = av.VideoFrame(stream.width, stream.height, "gbrp10le")
            for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
                rows = np.frombuffer(plane, np.uint16).reshape(stream.height, -1)
                rows[:, : stream.width] = codes[channel]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_exr(folder: Path, frames: Frames) -> Path:
    header = {
        "type": OpenEXR.scanlineimage,
        "chromaticities": AP1,
        "framesPerSecond": Fraction(25),
    }
    for number, frame in enumerate(frames):
        pixels = np.ascontiguousarray(frame.transpose(1, 2, 0), np.float16)
        OpenEXR.File(header, {"RGB": pixels}).write(str(folder / f"a.{number:04}.exr"))
    return folder / "a.%04d.exr"


def scores(source: Path, truth: Frames, folder: Path, **options: Any) -> tuple[float, float]:
    """Return mean J and MAD of the mattes of a clip."""
    with as_file(files("vidmatte.sample") / "portrait.prompts.json") as path:
        (prompt,) = load_prompts(path)["astronaut"]
    matte = folder / "matte.mkv"
    chosen = vidmatte.MatteOptions(overwrite=True, threads=1, **options)
    vidmatte.matte(source, vidmatte.Prompt(points=prompt.points), alpha=matte, options=chosen)
    with open_video(matte) as video:
        pairs = [
            (frame.rgb[0], exact[0]) for frame, exact in zip(video.decode(), truth, strict=True)
        ]
    j = np.mean([region_overlap(*pair) for pair in pairs])
    return float(j), float(np.mean([mad(*pair) for pair in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=25)
    count = parser.parse_args().frames
    frames, truth = sample("portrait.mp4", count), sample("portrait_alpha.mkv", count)
    print(f"{len(frames)} frames | J | MAD | J without --input-space")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        j, error = scores(write_movie(folder / "o.mkv", frames), truth, folder)
        print(f"as it is | {j:.4f} | {error:.4f} |", flush=True)
        for space in SPACES:
            there = list(in_space(frames, space))
            is_exr = space == "ACEScg"
            source = write_exr(folder, there) if is_exr else write_movie(folder / "c.mkv", there)
            j, error = scores(source, truth, folder, input_space="auto" if is_exr else space)
            plain, _ = scores(source, truth, folder)
            print(f"{space} | {j:.4f} | {error:.4f} | {plain:.4f}", flush=True)


if __name__ == "__main__":
    main()
