"""`vidmatte demo`: matte the sample clip of the package, and compare it with its exact alpha."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidmatte.cli.console import one_line_errors, print_result, print_summary, say
from vidmatte.cli.progress import ProgressLine
from vidmatte.errors import OptionError
from vidmatte.options import MatteOptions
from vidmatte.process import loading

if TYPE_CHECKING:
    from vidmatte.imaging.arrays import Alpha

_CLIP, _PROMPTS, _ALPHA = "portrait.mp4", "portrait.prompts.json", "portrait_alpha.mkv"


@click.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default="vidmatte-demo")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--quiet", is_flag=True, help="Print errors and the comparison only.")
def demo_command(folder: Path, overwrite: bool, quiet: bool) -> None:
    """Matte the sample clip that comes with vidmatte, and compare it with its exact alpha.

    The clip, its marks and the mattes are written to FOLDER (vidmatte-demo), which is created.
    """
    line = ProgressLine(enabled=not quiet)
    with one_line_errors(interrupted=lambda: f"Interrupted after {line.text}."):
        _demo(folder, overwrite=overwrite, line=line, quiet=quiet)


def _demo(folder: Path, *, overwrite: bool, line: ProgressLine, quiet: bool) -> None:
    clip, marks = (_copied(name, folder, overwrite=overwrite) for name in (_CLIP, _PROMPTS))
    if not quiet:
        # The same run by hand, for a user to start from.
        say(f"vidmatte {clip} --prompts {marks} -o ...")
    # Lossless, so that the figures are those of the matte and not of a codec.
    found = folder / "portrait_matte_alpha.mkv"
    with line:
        with loading():
            from vidmatte.pipeline.run import matte
            from vidmatte.prompts.files import load_prompts

        summary = matte(
            clip,
            load_prompts(marks),
            output=[folder / "portrait_matte.mov", folder / "portrait_matte.webm"],
            alpha=found,
            options=MatteOptions(overwrite=overwrite),
            progress=line.show,
        )
    if not quiet:
        print_summary(summary)
    with as_file(files("vidmatte.sample") / _ALPHA) as truth:
        print_result(compare(found, truth))


def copied_sample(folder: Path) -> Path:
    """Return the sample clip in a folder, which is created. Raises OptionError if another file has
    its place."""
    return _copied(_CLIP, folder, overwrite=False)


def _copied(name: str, folder: Path, *, overwrite: bool) -> Path:
    """Copy a file of the sample to a folder. Raises OptionError if another file has its place."""
    path = folder / name
    data = (files("vidmatte.sample") / name).read_bytes()
    # A second demo in the same folder is no mistake.
    if path.exists() and path.read_bytes() == data:
        return path
    if path.exists() and not overwrite:
        raise OptionError(
            f"{path}: is another file than that of the sample; choose another folder, or give "
            f"--overwrite"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def compare(found: Path, truth: Path) -> str:
    """Return a sentence on the error of an alpha movie against the exact one.

    Frames are compared as they are read, so that memory stays small. Raises OptionError if size or
    number of frames differ.
    """
    import numpy as np

    from vidmatte.metrics import dtssd, mad, region_overlap

    errors, overlap, flicker = [], [], []
    last = None
    try:
        for ours, exact in zip(_alphas(found), _alphas(truth), strict=True):
            errors.append(mad(ours, exact))
            overlap.append(region_overlap(ours, exact))
            if last is not None:
                # Flicker takes two frames, so the first has none.
                flicker.append(dtssd(np.stack([last[0], ours]), np.stack([last[1], exact])))
            last = (ours, exact)
    except ValueError as error:
        raise OptionError(
            f"{found} and {truth} differ in their size or number of frames; give mattes of one clip"
        ) from error
    return (
        f"{found}: {len(errors)} frames against the exact alpha: MAD {np.mean(errors):.4f} (worst "
        f"frame {np.max(errors):.4f}), dtSSD {np.mean(flicker):.2f}, overlap J "
        f"{np.mean(overlap):.4f}"
    )


def _alphas(path: Path) -> Iterator[Alpha]:
    """Yield the alpha (H, W) in 0..1 of each frame of a gray movie."""
    from vidmatte.read import open_video

    with open_video(path) as video:
        for frame in video.decode():
            yield frame.rgb[0]
