"""Damage movies, images, masks, sequences and prompt files, and read them.

Each has to end in a clear error or a right result.

    python benchmarks/fuzz.py --files 2000 --seed 1 --folder fuzz/  # exit code 1 for a failure
    python benchmarks/fuzz.py --only 1:733 --folder fuzz/  # one file again, with its output

Every file is made from a seed (`seed:number`) and read in a process of its own, with limits on
memory and time. Only files that failed are kept, with their number in the name. A right result is:
frames of the size that was announced, finite, with times that rise, not far more than the undamaged
file has, and random access to one of them. What a damaged packet shows is the decoder's choice, and
not judged.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from clips import write_movie

from vidmatte.errors import VidmatteError
from vidmatte.frames import FrameBatch
from vidmatte.imaging.display import to_display
from vidmatte.prompts.files import load_prompts, save_prompts
from vidmatte.prompts.prompt import Prompt, Stroke
from vidmatte.read import open_video
from vidmatte.read.images import is_animated, read_image
from vidmatte.read.mask import open_mask
from vidmatte.read.plane import labels_of

MEMORY = 2 << 30
"""Bytes that reading a file may take, beyond what the process has already."""
SECONDS = 60
FRAMES = 20

SOURCES = {
    "h264.mp4": dict(options={"g": "8", "bf": "2"}),
    "hevc.mkv": dict(codec="libx265", options={"x265-params": "log-level=none:keyint=8:pools=1"}),
    "vp9.webm": dict(codec="libvpx-vp9", options={"g": "8"}),
    "av1.mkv": dict(codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "prores.mov": dict(codec="prores_ks", pixel_format="yuv422p10le"),
    "dnxhr.mxf": dict(
        codec="dnxhd", pixel_format="yuv422p", options={"profile": "dnxhr_sq"}, size=(256, 128)
    ),
    "mpeg2.ts": dict(codec="mpeg2video", options={"g": "8", "bf": "2"}),
    "mpeg2.mpg": dict(codec="mpeg2video", options={"g": "8"}),
    "mpeg4.avi": dict(codec="mpeg4", options={"g": "8"}),
    "ffv1.mkv": dict(codec="ffv1", pixel_format="yuv420p10le", options={"level": "3"}),
    "mjpeg.mov": dict(codec="mjpeg", pixel_format="yuvj420p"),
    "png.mov": dict(codec="png", pixel_format="rgb24"),
    "qtrle.mov": dict(codec="qtrle", pixel_format="rgb24"),
    "flv1.flv": dict(codec="flv1"),
}
MASKS = ("mask.png", "palette.png", "mask.webp", "profile.jpg")
"""Read as masks, and as references: label images, animations, colour profiles."""
PROMPTS = ("prompts.json",)
SEQUENCE = "frames.png"
"""The middle frame of a sequence, the others of which are whole."""
STILLS = ("still.png", "still.jpg", "still.tif", "still.dpx", "still.exr")


def make_sources(folder: Path) -> dict[str, bytes]:
    """The undamaged files."""
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    for name, settings in SOURCES.items():
        if not (folder / name).exists():
            write_movie(
                folder / name, frames=FRAMES, sound=name.endswith((".mp4", ".ts")), **settings
            )
    for name in STILLS[:3]:
        cv2.imwrite(str(folder / name), picture)
    _write_dpx(folder / "still.dpx", picture)
    _write_masks(folder, picture)
    names = [*SOURCES, *STILLS, *MASKS, *PROMPTS, SEQUENCE]
    try:
        import OpenEXR
    except ImportError:
        names.remove("still.exr")
    else:
        header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
        OpenEXR.File(header, {"RGB": picture.astype(np.float16)}).write(str(folder / "still.exr"))
    return {name: (folder / name).read_bytes() for name in names}


def _write_masks(folder: Path, picture: np.ndarray) -> None:
    """Masks of the kinds that tools write, a prompt file, and a frame of a sequence."""
    import cv2
    from PIL import Image, ImageCms

    shape = np.zeros(picture.shape[:2], np.uint8)
    shape[10:30, 10:40] = 255
    cv2.imwrite(str(folder / "mask.png"), np.dstack([picture, shape]))
    palette = Image.fromarray(shape // 255)
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(folder / "palette.png")
    frames = [Image.fromarray(np.roll(picture, n, 1)) for n in range(4)]
    frames[0].save(folder / "mask.webp", save_all=True, append_images=frames[1:], duration=40)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    frames[0].save(folder / "profile.jpg", icc_profile=profile, exif=exif)
    prompts = {
        "person": [
            Prompt(
                frame=3,
                points=((10.0, 20.0, 1), (40.5, 5.0, 0)),
                strokes=(Stroke(((1.0, 2.0), (30.0, 40.0)), 5.0, 1),),
                box=(1.0, 2.0, 60.0, 40.0),
            )
        ],
        "dog": [Prompt(mask=folder / "mask.png")],
    }
    save_prompts(folder / "prompts.json", prompts, source="clip.mp4")
    cv2.imwrite(str(folder / SEQUENCE), picture)


def _write_dpx(path: Path, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    header = bytearray(2048)
    struct.pack_into(">4sI8sI", header, 0, b"SDPX", 2048, b"V1.0", 2048 + 4 * width * height)
    struct.pack_into(">HHII", header, 768, 0, 1, width, height)
    struct.pack_into(">IIIII", header, 780, 0, 0, 0, 0, 0)
    header[800:804], header[804:806] = bytes([50, 2, 2, 10]), b"\0\1"
    struct.pack_into(">I", header, 808, 2048)
    words = picture.astype(np.uint32) << 2
    path.write_bytes(
        bytes(header)
        + ((words[..., 0] << 22) | (words[..., 1] << 12) | (words[..., 2] << 2))
        .astype(">u4")
        .tobytes()
    )


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Damage a file one to three times in the first or last 4 KB, in the packets, or as a whole."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        size = len(broken)
        if size < 64:
            break
        place = rng.randrange(size)
        if rng.random() < 0.6:
            near = rng.randrange(min(size, 4096))
            place = rng.choice((near, size - 1 - near))
        rng.choice(DAMAGES)(broken, place, rng)
    return bytes(broken)


def flip_bits(broken: bytearray, place: int, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 32))):
        broken[min(len(broken) - 1, place + rng.randrange(64))] ^= 1 << rng.randrange(8)


def set_number(broken: bytearray, place: int, rng: random.Random) -> None:
    value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    width = rng.choice((1, 2, 4))
    broken[place : place + width] = (value & (1 << 8 * width) - 1).to_bytes(
        width, rng.choice(("big", "little"))
    )


def overwrite(broken: bytearray, place: int, rng: random.Random) -> None:
    length = rng.choice((1, 16, 256, 4096))
    broken[place : place + length] = rng.randbytes(length)


def cut_out(broken: bytearray, place: int, rng: random.Random) -> None:
    del broken[place : place + rng.choice((1, 7, 188, 2048))]


def repeat(broken: bytearray, place: int, rng: random.Random) -> None:
    other = rng.randrange(len(broken))
    broken[place:place] = broken[other : other + rng.choice((8, 188, 1024))]


def cut_off(broken: bytearray, place: int, rng: random.Random) -> None:
    del broken[max(64, place) :]


def blank(broken: bytearray, place: int, rng: random.Random) -> None:
    length = min(rng.choice((16, 512, 8192)), len(broken) - place)
    broken[place : place + length] = bytes(length)


DAMAGES = (flip_bits, set_number, overwrite, cut_out, repeat, cut_off, blank)


def read(path: Path, allow_truncated: bool) -> str:
    """Read a file as a run does; return what it held. Raises AssertionError for a wrong result."""
    name = path.name.rpartition("_")[2]
    if name in PROMPTS:
        return read_prompts(path)
    if name in MASKS:
        return read_mask(path)
    is_sequence = name == SEQUENCE
    source = sequence_around(path) if is_sequence else path
    is_still = name in STILLS or is_sequence
    damage = random.Random(path.name).choice(("stop", "skip", "hold"))
    chosen = {} if is_still or not allow_truncated else {"on_damage": damage}
    with open_video(source, **chosen) as video:
        info, times = video.info, []
        sums = []
        for frame in video.decode():
            assert frame.rgb.shape == (3, info.height, info.width), (
                "a frame has another size than was announced"
            )
            assert np.isfinite(frame.rgb).all(), "a frame is not finite"
            times.append(frame.pts)
            sums.append(float(frame.rgb.sum()))
            assert len(times) <= 50 * FRAMES, "far more frames than there can be"
        assert all(a < b for a, b in pairwise(times)), "times do not rise"
        if not is_still and times and video.count_frames() == len(times):
            index = len(times) * 2 // 3
            found = video.frame(index)
            assert found.frames == (index,), "random access finds another frame"
    return f"{len(times)} frames"


def read_prompts(path: Path) -> str:
    """Load a prompt file, and draw what it marks on a frame."""
    objects = load_prompts(path)
    for prompts in objects.values():
        for prompt in prompts:
            alpha = prompt.reference(torch.zeros(1, 3, 48, 64)).alpha
            assert alpha.shape == (1, 1, 48, 64), "the reference has another size than its frame"
    return f"{len(objects)} objects"


def read_mask(path: Path) -> str:
    """Read an image as mask, as matte and as reference."""
    with open_mask(path) as mask:
        size = mask.size
        batch = FrameBatch(torch.zeros(1, 3, *size), (0,), (0,), (1,))
        (plane,) = mask.read(batch, size, size[1])
        assert plane.shape == size, "the mask has another size than was announced"
        assert np.isfinite(plane).all(), "the mask is not finite"
        assert plane.min() >= 0, "the mask is below 0"
        assert plane.max() <= 1, "the mask is above 1"
    if is_animated(path):
        return "animation"
    labels_of(path)
    image = read_image(path)
    shown = to_display(torch.from_numpy(image.rgb), image.color)
    assert torch.isfinite(shown).all(), "the image is not finite"
    return f"{size[1]}x{size[0]}"


def sequence_around(path: Path) -> str:
    """A sequence of three frames, the damaged one in the middle."""
    folder = path.with_suffix(".sequence")
    folder.mkdir(exist_ok=True)
    whole = path.with_name(SEQUENCE)
    for number, frame in enumerate((whole, path, whole)):
        (folder / f"frame.{number:04}.png").write_bytes(frame.read_bytes())
    return str(folder / "frame.%04d.png")


def child(path: Path, allow_truncated: bool) -> None:
    """Read in this process and leave it with a code: 0 right, 10 clear error, 11 anything else."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        print(read(path, allow_truncated), flush=True)
        code = 0
    except VidmatteError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        code = 10 if "\n" not in str(error) else 11
    except BaseException:  # noqa: BLE001 - what the fuzzing looks for
        traceback.print_exc()
        sys.stderr.flush()
        code = 11
    os._exit(code)


def run(path: Path, log: Path, allow_truncated: bool) -> tuple[str, float]:
    """Read a file in a separate process; return "right", "error" or the fault, and the seconds."""
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        child(path, allow_truncated)
    while time.monotonic() - began < SECONDS:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return (
                    f"crash ({signal.Signals(os.WTERMSIG(status)).name})",
                    time.monotonic() - began,
                )
            return {0: "right", 10: "error"}.get(
                os.WEXITSTATUS(status), "traceback"
            ), time.monotonic() - began
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "hang", time.monotonic() - began


def fuzz(folder: Path, seed: int, numbers: range) -> collections.Counter[tuple[str, str]]:
    """Make and read the files with these numbers, and keep those that fail.

    Return counts by source and by result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = make_sources(folder)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for number in numbers:
        rng = random.Random(f"{seed}:{number}")
        name = list(sources)[number % len(sources)]
        path = folder / f"{seed}_{number}_{name}"
        path.write_bytes(damaged(sources[name], rng))
        log = path.with_suffix(".log")
        ending, seconds = run(path, log, rng.random() < 0.3)
        counts[name, ending] += 1
        if ending in ("right", "error"):
            path.unlink()
            log.unlink()
            shutil.rmtree(path.with_suffix(".sequence"), ignore_errors=True)
        else:
            print(f"{seed}:{number} {name}: {ending} after {seconds:.1f} s, see {log}", flush=True)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("fuzz"))
    parser.add_argument("--only", help="seed:number of one file, which is kept")
    arguments = parser.parse_args()
    if arguments.only:
        seed, number = map(int, arguments.only.split(":"))
        counts = fuzz(arguments.folder, seed, range(number, number + 1))
    else:
        counts = fuzz(arguments.folder, arguments.seed, range(arguments.files))
    endings = sorted({ending for _, ending in counts})
    print("source", *endings, sep="\t")
    for name in dict.fromkeys(name for name, _ in counts):
        print(name, *(counts[name, ending] for ending in endings), sep="\t")
    failed = sum(count for (_, ending), count in counts.items() if ending not in ("right", "error"))
    print(f"{counts.total()} files, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
