"""Compare two commits in one run: `python benchmarks/compare.py OLD NEW [--what alpha]`.

Both are checked out beside each other and run turn by turn on one clip, so that a busy machine
slows both alike. Each turn also runs a network of the size of RobustVideoMatting on the same frames
(`reference_network.py`, random weights) and the encoders of FFmpeg alone. Processor time is that of
the whole process, user and system. The time of a frame comes from two runs of different length:
loading and the answer to the marks drop out.

What is matted (`--what`): `alpha` writes alpha as FFV1; `prores` writes ProRes 4444 and alpha as
ProRes; `two` writes alpha of two objects, and its figure is what the second one costs relative to
the first. The ratio printed is NEW over OLD, by pairs: median, lowest and highest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
from end_to_end import POINTS, make_clip

ROOT = Path(__file__).parents[1]
_BOTH = ((720, 375), (720, 840))
"""On the face and the suit of the sample clip at 1080p: one object, or one each."""


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds of processor time and by the clock, bytes at most."""

    processor: float
    clock: float
    peak: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.processor - other.processor, self.clock - other.clock, self.peak)


def measured(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run a command and return its cost, that of its child processes included."""
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **environment})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"{' '.join(command)} failed with status {status}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(usage.ru_utime + usage.ru_stime, time.monotonic() - began, peak)


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder for the block; "." is the working tree as it is."""
    if commit == ".":
        yield ROOT
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def matte(tree: Path, clip: Path, folder: Path, what: str, frames: int) -> Cost:
    """Matte the first frames of a clip with the code of a tree."""
    outputs = ["--alpha", str(folder / "alpha.mkv")]
    marks = [f"{x},{y}" for x, y in _BOTH]
    prompt = ["--points", " ".join(marks)]
    if what == "prores":
        outputs = ["-o", str(folder / "colour.mov"), "--alpha", str(folder / "alpha.mov")]
    if what == "two":
        objects = folder / "two.json"
        objects.write_text(_two_objects(clip), encoding="utf-8")
        outputs = ["--alpha", str(folder / "{object}.mkv")]
        prompt = ["--prompts", str(objects)]
    end = ["--end", str(frames - 1), "--overwrite", "--quiet"]
    command = [sys.executable, "-m", "vidmatte", str(clip), *prompt, *outputs, *end]
    return measured(command, {"PYTHONPATH": str(tree)})


def _two_objects(clip: Path) -> str:
    """Return a prompt file that marks the person twice, as two objects."""
    from vidmatte.prompts.files import save_prompts
    from vidmatte.prompts.prompt import Prompt

    path = clip.with_suffix(".json")
    marks = Prompt(frame=0, points=POINTS)
    save_prompts(path, {"first": [marks], "second": [marks]})
    return path.read_text(encoding="utf-8")


def reference(clip: Path, frames: int) -> Cost:
    """Run the reference network on the first frames of a clip."""
    script = str(Path(__file__))
    return measured([sys.executable, script, "--network", str(clip), str(frames)], {})


def encode(clip: Path, folder: Path, what: str, frames: int) -> Cost:
    """Decode the first frames of a clip, and encode them as the run does, with FFmpeg alone."""
    script = str(Path(__file__))
    return measured([sys.executable, script, "--encode", str(clip), str(frames), what], {})


def run_network(clip: str, frames: int) -> None:
    """Show the frames of a clip to the reference network."""
    import av
    import numpy as np
    import torch
    from reference_network import ReferenceNetwork

    torch.manual_seed(0)
    network = ReferenceNetwork().eval().to(memory_format=torch.channels_last)
    with av.open(clip) as container, torch.inference_mode():
        for number, frame in enumerate(container.decode(video=0)):
            if number == frames:
                return
            rgb = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)[None]
            alpha = network(rgb.float() / 255)[0, 3]
            assert np.isfinite(float(alpha.mean()))


def run_encoders(clip: str, frames: int, what: str) -> None:
    """Decode the frames of a clip, and encode them with the codecs of a run."""
    import av

    codecs = [("ffv1", "gray16le", "mkv")]
    if what == "prores":
        codecs = [("prores_ks", "yuva444p10le", "mov"), ("prores_ks", "yuv422p10le", "mov")]
    with TemporaryDirectory() as folder, ExitStack() as stack, av.open(clip) as container:
        source = container.streams.video[0]
        source.thread_type = "AUTO"
        streams = []
        for number, (codec, pixel_format, extension) in enumerate(codecs):
            out = stack.enter_context(av.open(f"{folder}/{number}.{extension}", "w"))
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height = source.width, source.height
            stream.pix_fmt = pixel_format
            streams.append((out, stream, pixel_format))
        for number, frame in enumerate(container.decode(source)):
            if number == frames:
                break
            for out, stream, pixel_format in streams:
                out.mux(stream.encode(frame.reformat(format=pixel_format, threads=1)))
        for out, stream, _ in streams:
            out.mux(stream.encode(None))


def show(name: str, costs: Sequence[Cost], frames: int) -> None:
    """Print the median cost of a frame."""
    processor = median(cost.processor for cost in costs) / frames
    clock = median(cost.clock for cost in costs) / frames
    peak = max(cost.peak for cost in costs)
    click.echo(
        f"{name:28s} {processor * 1000:7.0f} ms/frame of processor time, {clock * 1000:7.0f} by "
        f"the clock ({clock / (processor / 2):.2f} of a half), {peak / 1e6:.0f} MB"
    )


def show_ratio(name: str, above: Sequence[Cost], below: Sequence[Cost]) -> None:
    """Print ratios of pairs of costs."""
    for kind in ("processor", "clock"):
        pairs = zip(above, below, strict=True)
        ratios = sorted(getattr(a, kind) / getattr(b, kind) for a, b in pairs)
        click.echo(
            f"{name:28s} {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}), {kind} time"
        )


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--what", type=click.Choice(["alpha", "prores", "two"]), default="alpha")
@click.option("--frames", default=25, help="Frames of the longer runs.")
@click.option("--short", default=5, help="Frames of the shorter runs.")
@click.option("--rounds", default=3, help="Turns of each.")
def main(old: str, new: str, what: str, frames: int, short: int, rounds: int) -> None:
    """Compare the commits OLD and NEW; "." is the working tree."""
    costs: dict[str, list[Cost]] = {"old": [], "new": [], "network": [], "encoders": [], "one": []}
    whole: list[Cost] = []
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        trees = {
            "old": stack.enter_context(checked_out(old, folder / "old")),
            "new": stack.enter_context(checked_out(new, folder / "new")),
        }
        clip = make_clip(folder / "clip.mp4", frames)
        for turn in range(rounds):
            # Each goes first in turn: the first may find the machine colder.
            order = ("old", "new") if turn % 2 == 0 else ("new", "old")
            for which in order:
                long = matte(trees[which], clip, folder, what, frames)
                costs[which].append(long - matte(trees[which], clip, folder, what, short))
                if which == "new":
                    whole.append(long)
            if what == "two":
                long = matte(trees["new"], clip, folder, "alpha", frames)
                costs["one"].append(long - matte(trees["new"], clip, folder, "alpha", short))
            costs["network"].append(reference(clip, frames) - reference(clip, short))
            kind = "alpha" if what == "two" else what
            long = encode(clip, folder, kind, frames)
            costs["encoders"].append(long - encode(clip, folder, kind, short))
    titles = {"old": f"old {old}", "new": f"new {new}", "one": "new, one object"}
    for which, found in costs.items():
        if found:
            show(titles.get(which, which), found, frames - short)
    show_ratio("new / old", costs["new"], costs["old"])
    show_ratio("new / reference network", costs["new"], costs["network"])
    show_ratio("new / encoders alone", costs["new"], costs["encoders"])
    if costs["one"]:
        second = [both - one for both, one in zip(costs["new"], costs["one"], strict=True)]
        show_ratio("second object / first", second, costs["one"])
    seconds = median(cost.clock for cost in whole)
    click.echo(f"whole command of the new one, {frames} frames: {seconds:.1f} s by the clock")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--network"]:
        run_network(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["--encode"]:
        run_encoders(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
