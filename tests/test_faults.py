"""What goes wrong in the middle of a run: one clear error, nothing under the final name, nothing
left behind.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import write_movie
from test_write_safety import frames_in, info, mattes, save
from users import as_ordinary_user

import vidmatte
from vidmatte.errors import ReadError, VidmatteError, WriteError
from vidmatte.write import OutputSpec, create_outputs
from vidmatte.write.movie import MovieWriter, _PartialFile

NOT_ON_WINDOWS = pytest.mark.skipif(
    sys.platform == "win32", reason="files and signals of another kind"
)


@pytest.mark.parametrize("name", ["out.mov", "out.webm"])
def test_disk_that_is_full_at_any_byte_is_one_error(tmp_path, monkeypatch, name):
    batches = [mattes(2, first=2 * k, size=(90, 160)) for k in range(2)]
    save(tmp_path / name, batches)
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    write = _PartialFile.write
    room = 0

    def write_into_little(self, data):
        nonlocal room
        room -= len(data)
        if room < 0:
            self.error = self.error or OSError(28, "No space left on device")
            raise self.error
        return write(self, data)

    monkeypatch.setattr(_PartialFile, "write", write_into_little)
    for point in random.Random(0).sample(range(size), 25):
        room = point
        with pytest.raises(
            WriteError,
            match=rf"{name}: writing failed .*No space left on device.*no output was written",
        ):
            save(tmp_path / name, batches)
        assert os.listdir(tmp_path) == []


def test_encoder_that_fails_midway_is_one_error(tmp_path, monkeypatch):
    mux = MovieWriter._mux

    def fail_at_the_third(self, packets):
        if self.frames == 2:
            raise av.ExternalError(542398533, "Generic error in an external library")
        mux(self, packets)

    monkeypatch.setattr(MovieWriter, "_mux", fail_at_the_third)
    with pytest.raises(
        WriteError, match=r"out\.webm: writing failed after .* frames \(Generic error"
    ):
        save(tmp_path / "out.webm", [mattes(first=k) for k in range(6)])
    assert os.listdir(tmp_path) == []


@NOT_ON_WINDOWS
@pytest.mark.parametrize("name", ["out.mov", "%04d.png"])
def test_output_folder_that_is_removed_is_one_error(tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()

    def run():
        with create_outputs([OutputSpec(folder / name)], like=info()) as outputs:
            outputs.write(mattes())
            shutil.rmtree(folder)
            for first in range(1, 4):
                outputs.write(mattes(first=first))

    with pytest.raises(WriteError, match="No such file or directory"):
        run()
    assert os.listdir(tmp_path) == []


@NOT_ON_WINDOWS
@pytest.mark.parametrize("name", ["out.mov", "%04d.png"])
def test_output_is_kept_if_permission_is_lost(name):
    def run():
        with create_outputs([OutputSpec(folder / name)], like=info()) as outputs:
            outputs.write(mattes())
            folder.chmod(0o555)

    with as_ordinary_user():
        folder = Path(tempfile.mkdtemp())  # not tmp_path, whose parents are closed to other users
        message = r"cannot be put in place .*unchanged; the finished .* kept as .*\.partial: rename"
        try:
            with pytest.raises(WriteError, match=message):
                run()
            folder.chmod(0o755)
            (left,) = os.listdir(folder)
            assert left.endswith(".partial")
            save(folder / name, [mattes()])
            assert left in os.listdir(folder)
        finally:
            folder.chmod(0o755)
            shutil.rmtree(folder)


@NOT_ON_WINDOWS
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_source_that_is_truncated_while_it_is_read_is_one_error(tmp_path, suffix):
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (192, 320, 3), np.uint8) for _ in range(40)]
    clip = write_movie(
        tmp_path / f"clip{suffix}",
        frames=40,
        size=(320, 192),
        pictures=pictures,
        options={"g": "4"},
    )
    size = clip.stat().st_size
    cv2.imwrite(str(tmp_path / "m.png"), np.full((192, 320), 200, np.uint8))

    def truncate(now):
        if now.done == 3:
            os.truncate(clip, size // 3)

    with pytest.raises(
        ReadError,
        match=r"clip\.\w+: (is truncated or damaged at frame|cannot be read|was changed from)",
    ):
        vidmatte.matte(
            clip,
            output=tmp_path / "o.mov",
            alpha=tmp_path / "a.%03d.png",
            progress=truncate,
            options=vidmatte.MatteOptions(model="none", matte=tmp_path / "m.png"),
        )
    assert sorted(os.listdir(tmp_path)) == [clip.name, "m.png"]


def test_sequence_that_loses_a_frame_while_it_is_read_is_one_error(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / "in" / f"{number:03d}.png"), np.full((20, 30, 3), 99, np.uint8))
    cv2.imwrite(str(tmp_path / "m.png"), np.full((20, 30), 200, np.uint8))

    def lose(now):
        if now.done == 1:
            (tmp_path / "in" / "011.png").unlink(missing_ok=True)

    with pytest.raises(VidmatteError, match=r"011\.png: cannot be read \(No such file"):
        vidmatte.matte(
            tmp_path / "in",
            output=tmp_path / "o.mov",
            progress=lose,
            options=vidmatte.MatteOptions(model="none", matte=tmp_path / "m.png"),
        )
    assert sorted(os.listdir(tmp_path)) == ["in", "m.png"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_write_safety import info, mattes
from vidmatte.write import OutputSpec, create_outputs
specs = [OutputSpec(Path(sys.argv[2]) / name) for name in ("out.mov", "%04d.png")]
with create_outputs(specs, like=info()) as outputs:
    for first in range(4):
        outputs.write(mattes(first=first))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@NOT_ON_WINDOWS
def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path):
    root = Path(__file__).parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, Path(__file__).parent, tmp_path], check=False, cwd=root
    )
    assert killed.returncode == -signal.SIGKILL
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 2
    assert all(name.startswith(".") and name.endswith(".partial") for name in left)
    precious = tmp_path / ".out.mov.01234567.partial.replaced.partial"
    precious.write_text("what was there before")
    outputs = save(tmp_path / "out.mov", [mattes()])
    (movie,) = [name for name in left if ".mov." in name]
    assert outputs.notes == (
        f"{tmp_path / 'out.mov'}: removed what a killed run had left: {movie}",
    )
    save(tmp_path / "%04d.png", [mattes()])
    assert sorted(os.listdir(tmp_path)) == [precious.name, "0000.png", "out.mov"]


@NOT_ON_WINDOWS
def test_what_another_run_works_on_is_left_alone(tmp_path):
    with create_outputs([OutputSpec(tmp_path / "out.mov")], like=info(), overwrite=True) as first:
        first.write(mattes())
        second = save(tmp_path / "out.mov", [mattes(2)])
        assert second.notes == ()
    assert frames_in(tmp_path / "out.mov") == 1
    assert os.listdir(tmp_path) == ["out.mov"]


@NOT_ON_WINDOWS
def test_overwriting_a_link_writes_what_it_leads_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "desk").mkdir()
    for name in ("out.mov", "0000.png"):
        (tmp_path / "disk" / name).write_text("old")
        (tmp_path / "desk" / name).symlink_to(tmp_path / "disk" / name)
    save(tmp_path / "desk" / "out.mov", [mattes()], overwrite=True)
    save(tmp_path / "desk" / "%04d.png", [mattes()], overwrite=True)
    for name in ("out.mov", "0000.png"):
        assert (tmp_path / "desk" / name).is_symlink()
        assert (tmp_path / "disk" / name).stat().st_size > 1000
    assert frames_in(tmp_path / "disk" / "out.mov") == 1
    assert (
        sorted(os.listdir(tmp_path / "desk"))
        == sorted(os.listdir(tmp_path / "disk"))
        == ["0000.png", "out.mov"]
    )


@NOT_ON_WINDOWS
@pytest.mark.slow
def test_the_command_ends_well_under_faults():
    """Random points, the whole command each time; see the benchmark for what is right."""
    root = Path(__file__).parent.parent
    command = [sys.executable, root / "benchmarks" / "faults.py", "--points", "12", "--others", "3"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
