"""Let runs fail in the middle, in many ways, and look at what they say and leave.

    python benchmarks/faults.py --points 50 --seed 1      # a table; exit code 1 for any failure

Each run is the command in a process of its own, without a model (`--model none`). If the run cannot
succeed, it has to end with exit code 1 (a killed one with its signal), one line on standard error
and no traceback, nothing under the final names, and no hidden file that the next run does not
remove. A run that only cannot tell about itself, or cannot clean up, has to succeed.

The full disk is a tmpfs of a random size if this may be mounted (by root), else a limit on the size
of files. The FUSE folder is one of bindfs if that is installed, else simulated: files that are
removed while they are open stay under another name, so that their folder cannot be removed. The
cluster has a node that lacks the folder of the plates; it needs Ray, and root to hide the folder.
Every run writes ProRes 4444 colour, PNG and FFV1 alpha together.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import pkgutil
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from clips import write_movie

import vidmatte
from vidmatte.cli import cli
from vidmatte.process import protect_streams

FRAMES = 24
SIZE = (320, 192)
OUTPUTS = ("c.mov", "c.%03d.png", "a.mkv")
SECONDS = 180


def load_modules() -> None:
    """Load what commands load when they are needed, before a run may have lost the right to read
    it.
    """
    for module in pkgutil.walk_packages(vidmatte.__path__, "vidmatte."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)


def make_source(folder: Path) -> None:
    """A clip of noise with sound, and a matte."""
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8) for _ in range(FRAMES)]
    for name in ("clip.mp4", "clip.mkv", "clip.ts"):
        write_movie(
            folder / name,
            frames=FRAMES,
            size=SIZE,
            pictures=pictures,
            sound=True,
            options={"g": "4"},
        )
    x = np.linspace(-0.5, 1.5, SIZE[0]).clip(0, 1)
    cv2.imwrite(str(folder / "m.png"), np.round(np.tile(x, (SIZE[1], 1)) * 65535).astype(np.uint16))


def command(source: Path, out: Path) -> list[str]:
    color, images, alpha = (str(out / name) for name in OUTPUTS)
    matte = str(source.with_name("m.png"))
    return [
        str(source),
        "--model",
        "none",
        "--matte",
        matte,
        "-o",
        color,
        "-o",
        images,
        "--alpha",
        alpha,
        "--quiet",
    ]


def start(arguments: list[str], log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run the command in a child of this process, which has all modules loaded; returns its
    number.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    with (
        log.open("w") as file,
        contextlib.redirect_stderr(file),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        os.dup2(file.fileno(), 2)
        try:
            prepare()
            protect_streams()  # as the program does at its start
            cli(arguments, prog_name="vidmatte")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            file.flush()
            os._exit(code)
    return 0


def wait(child: int) -> int:
    """Its exit code; the negative number of the signal that ended it."""
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def verdict(code: int, log: Path, out: Path, *, hidden: bool = False) -> str:
    """What is wrong with the end of a run; empty where nothing is."""
    lines = log.read_text().splitlines()
    left = sorted(os.listdir(out)) if out.is_dir() else []
    shown = [
        name for name in left if not (hidden and name.startswith(".") and name.endswith(".partial"))
    ]
    if code != 1:
        return f"exit code {code}: {lines[-1:]}"
    if len(lines) != 1 or not lines[0].startswith("Error: "):
        return f"{len(lines)} lines: {lines}"
    return f"left {shown}" if shown else ""


def frames_done(out: Path) -> int:
    return sum(1 for _ in out.rglob("*.png")) if out.is_dir() else 0


def wait_for_frames(child: int, out: Path, count: int) -> None:
    """Until a run has written so many images."""
    for _ in range(3000):
        if frames_done(out) >= count:
            return
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)


@contextlib.contextmanager
def little_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A disk of so many bytes; None where none may be mounted."""
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def disk_full(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """Fill the disk after a random number of bytes, from none to all that a run writes."""
    out = fresh(folder)
    assert wait(start(command(folder / "clip.mp4", out), folder / "log")) == 0, (
        folder / "log"
    ).read_text()
    sizes = [path.stat().st_size for path in out.iterdir()]
    for _ in range(points):
        room = rng.randrange(8192, int(sum(sizes) * 0.95))
        with little_disk(folder, room) as disk:
            if disk is not None:
                code = wait(start(command(folder / "clip.mp4", disk), folder / "log"))
                yield verdict(code, folder / "log", disk)
                continue
        room = rng.randrange(1, int(max(sizes) * 0.95))
        out = fresh(folder)
        code = wait(
            start(
                command(folder / "clip.mp4", out),
                folder / "log",
                lambda limit=room: limit_files(limit),
            )
        )
        yield verdict(code, folder / "log", out)


def limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fresh(folder: Path) -> Path:
    out = folder / "out"
    if out.exists():
        out.chmod(0o755)
        shutil.rmtree(out)
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    return out


def in_the_middle(
    folder: Path, rng: random.Random, source: Path, act: Callable[[int, Path], None]
) -> tuple[int, Path]:
    """Run, do something to it after some frames, and wait for its end."""
    out = fresh(folder)
    child = start(command(source, out), folder / "log")
    wait_for_frames(child, out, rng.randrange(1, FRAMES // 3))
    act(child, out)
    return wait(child), out


def source_truncated(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """The source becomes shorter."""
    for n in range(points):
        name = ("clip.mp4", "clip.mkv", "clip.ts")[n % 3]
        copy = Path(shutil.copy(folder / name, folder / f"cut{Path(name).suffix}"))
        size = copy.stat().st_size

        def cut(child: int, out: Path, copy: Path = copy, size: int = size) -> None:
            os.truncate(copy, rng.randrange(size // 4, size // 2))

        code, out = in_the_middle(folder, rng, copy, cut)
        yield verdict(code, folder / "log", out)


def folder_removed(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """Somebody removes the folder of the outputs."""
    for _ in range(points):
        code, out = in_the_middle(folder, rng, folder / "clip.mp4", lambda child, out: remove(out))
        yield verdict(code, folder / "log", out)


def remove(out: Path) -> None:
    os.rename(out, out.with_name("gone"))
    shutil.rmtree(out.with_name("gone"))


def permission_lost(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """The folder of the outputs becomes read-only; root, who may write anyway, runs as nobody."""
    for _ in range(points):
        out = fresh(folder)
        child = start(command(folder / "clip.mp4", out), folder / "log", become_nobody)
        wait_for_frames(child, out, rng.randrange(1, FRAMES // 3))
        out.chmod(0o555)
        yield verdict(wait(child), folder / "log", out, hidden=True)


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 65534)


def killed(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """SIGKILL; the next run removes what was left, says so, and completes."""
    for _ in range(points):
        code, out = in_the_middle(
            folder, rng, folder / "clip.mp4", lambda child, out: os.kill(child, signal.SIGKILL)
        )
        if code != -signal.SIGKILL:
            yield f"exit code {code}"
            continue
        left = os.listdir(out)
        if not left or any(not name.endswith(".partial") for name in left):
            yield f"left {left}"
            continue
        code = wait(start(command(folder / "clip.mp4", out)[:-1], folder / "log"))
        hidden = [name for name in os.listdir(out) if name.startswith(".")]
        said = "removed what a killed run had left" in (folder / "log").read_text()
        yield (
            ""
            if code == 0 and not hidden and said
            else f"then exit code {code}, hidden {hidden}, said so: {said}"
        )


def dead_stderr(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """Nobody hears standard error: it is closed, a pipe without a reader, or on a full disk."""
    ways = (close_stderr, pipe_without_reader, on_full_disk)
    for n in range(points):
        out = fresh(folder)
        # With progress and notes, which have to be written nowhere.
        arguments = command(folder / "clip.mp4", out)[:-1]
        code = wait(start(arguments, folder / "log", ways[n % len(ways)]))
        yield succeeded(code, folder / "log", out)


def close_stderr() -> None:
    os.close(2)
    sys.stderr = None  # as the interpreter leaves it if it is started so


def pipe_without_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def on_full_disk() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def succeeded(code: int, log: Path, out: Path) -> str:
    """What is wrong with a run that should have completed; empty if nothing is."""
    if code != 0:
        return f"exit code {code}: {log.read_text().splitlines()[-1:]}"
    images = sum(1 for _ in out.glob("c.*.png"))
    missing = [name for name in ("c.mov", "a.mkv") if not (out / name).is_file()]
    return f"{images} of {FRAMES} images, missing {missing}" if missing or images < FRAMES else ""


def rename_fails(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """Refuse a final name at the end: the finished outputs are kept, and the old file stays."""
    for n in range(points):
        out = fresh(folder)
        (out / "c.mov").write_text("precious")
        refused = ("c.mov", "a.mkv", f"c.{rng.randrange(FRAMES):03d}.png")[n % 3]
        arguments = [*command(folder / "clip.mp4", out), "--overwrite"]
        code = wait(start(arguments, folder / "log", lambda name=refused: refuse_name(name)))
        lines = (folder / "log").read_text().splitlines()
        kept = [name for name in os.listdir(out) if ".finished-" in name]
        shown = [name for name in os.listdir(out) if name not in (*kept, "c.mov")]
        if code != 1 or len(lines) != 1 or "kept as" not in lines[0]:
            yield f"exit code {code}: {lines}"
        elif len(kept) != len(OUTPUTS) or any(name not in lines[0] for name in kept) or shown:
            yield f"kept {kept}, left {shown}"
        else:
            yield "" if (out / "c.mov").read_text() == "precious" else "the old file changed"


def refuse_name(name: str) -> None:
    """Let renaming and linking to a final name fail in this process."""
    for function in ("replace", "rename", "link"):
        original = getattr(os, function)

        def refuse(source: str, target: str, original: Callable[..., None] = original) -> None:
            if os.path.basename(target) == name:
                raise PermissionError(1, "Operation not permitted")
            original(source, target)

        setattr(os, function, refuse)


def fuse_folder(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """The outputs go to a FUSE disk, where what is open cannot be removed; in one go and in
    segments.
    """
    for n in range(points):
        out = fresh(folder)
        arguments = [
            *command(folder / "clip.mp4", out),
            *(["--segment-frames", "7"] if n % 2 else []),
        ]
        with bindfs(folder, out) as is_mounted:
            prepare = (lambda: None) if is_mounted else keep_open_files
            code = wait(start(arguments, folder / "log", prepare))
            yield succeeded(code, folder / "log", out)


@contextlib.contextmanager
def bindfs(folder: Path, out: Path) -> Iterator[bool]:
    """A folder seen through FUSE in place of `out`; False if bindfs is not installed or not
    allowed.
    """
    behind = folder / "behind"
    behind.mkdir(exist_ok=True)
    command = ["bindfs", "-o", "nonempty", str(behind), str(out)]
    if shutil.which("bindfs") is None or subprocess.run(command, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", str(out)], check=True)
        shutil.rmtree(behind)


def keep_open_files() -> None:
    """Let files that are open in this process get another name when they are removed, as FUSE
    does.
    """
    remove_name = os.unlink

    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        place = path if dir_fd is None else os.path.join(f"/proc/self/fd/{dir_fd}", path)
        facts = os.stat(place, follow_symlinks=False)
        if (facts.st_dev, facts.st_ino) in open_files():
            os.rename(place, os.path.join(os.path.dirname(place), f".fuse_hidden{facts.st_ino}"))
        else:
            remove_name(path, dir_fd=dir_fd)

    os.unlink = os.remove = unlink


def open_files() -> set[tuple[int, int]]:
    """Device and inode of every file that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            facts = os.stat(f"/proc/self/fd/{name}")
            found.add((facts.st_dev, facts.st_ino))
    return found


def node_without_mount(folder: Path, points: int, rng: random.Random) -> Iterator[str]:
    """A node of the cluster does not see the plates; every shot is done by the other one."""
    plates = folder / "plates"
    plates.mkdir(exist_ok=True)
    for n in range(points):
        shutil.copy(folder / "clip.mp4", plates / f"shot{n}.mp4")
    out = fresh(folder)
    shots = [
        f'[[shots]]\ninput = "{plates}/shot{n}.mp4"\nmodel = "none"\nmatte = "{folder}/m.png"\n'
        f'output = "{out}/shot{n}.mov"\n'
        for n in range(points)
    ]
    manifest = folder / "shots.toml"
    manifest.write_text("\n".join(shots))
    with cluster(plates) as address:
        arguments = [
            "batch",
            str(manifest),
            "--engine",
            "ray",
            "--address",
            address,
            "--retries",
            "1",
        ]
        run = [sys.executable, "-m", "vidmatte", *arguments]
        with (folder / "log").open("w") as log:
            code = subprocess.run(run, stdout=log, stderr=log, timeout=300, check=False).returncode
    for n in range(points):
        done = (out / f"shot{n}.mov").is_file()
        yield "" if done and code == 0 else f"exit code {code}, shot{n} done: {done}"


@contextlib.contextmanager
def cluster(hidden: Path) -> Iterator[str]:
    """A Ray cluster of a head without processors and two nodes, one of which does not see a
    folder.
    """
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    node = [*ray, "start", "--block", "--num-cpus=1"]
    address = "127.0.0.1:6390"
    head = [*ray, "start", "--block", "--head", "--port=6390", "--num-cpus=0"]
    hide = f'mount -t tmpfs tmpfs {hidden} && exec "$@"'
    commands = [
        [*head, "--include-dashboard=false"],
        [*node, f"--address={address}"],
        ["unshare", "-m", "sh", "-c", hide, "sh", *node, f"--address={address}"],
    ]
    processes = []
    try:
        for command in commands:
            quiet = subprocess.DEVNULL
            processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            time.sleep(8)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()


def has_cluster() -> bool:
    return importlib.util.find_spec("ray") is not None and os.geteuid() == 0


SCENES: dict[str, Callable[[Path, int, random.Random], Iterator[str]]] = {
    "disk full": disk_full,
    "source truncated": source_truncated,
    "output folder removed": folder_removed,
    "permission lost": permission_lost,
    "killed": killed,
    "dead stderr": dead_stderr,
    "rename fails": rename_fails,
    "FUSE folder": fuse_folder,
    "node without its mount": node_without_mount,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--points", type=int, default=50, help="random points at which the disk is full"
    )
    parser.add_argument("--others", type=int, default=9, help="runs of each other kind")
    parser.add_argument("--scene", choices=SCENES, help="only this kind; all by default")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        load_modules()
        make_source(folder)
        for scene, play in SCENES.items():
            if given.scene not in (None, scene):
                continue
            if play is node_without_mount and not has_cluster():
                print(f"{scene:24s} left out: needs Ray, and root")
                continue
            count = given.points if play is disk_full else given.others
            wrong = [
                problem for problem in play(folder, count, random.Random(given.seed)) if problem
            ]
            bad += len(wrong)
            print(
                f"{scene:24s} {count - len(wrong):3d} of {count} end well",
                *wrong[:3],
                sep="\n    " if wrong else "",
            )
            last = (folder / "log").read_text().splitlines()[-1:]
            print(f"    {last[0].replace(name, '')}" if last else "")
        fresh(folder)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
