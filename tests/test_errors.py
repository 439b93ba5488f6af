"""Bad input on the command line: one helpful line, the right exit code, nothing changed."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie
from users import as_ordinary_user

from vidmatte.cli import cli

SMALL = ("--working-size", "128")
POINT = ("--points", "80,20")


def refuse(arguments, message, *, code=1, folder):
    """Run, and check exit code, the one line on stderr, and that the folder is as it was."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = CliRunner().invoke(cli, [*map(str, arguments), "--quiet", *SMALL])
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert after == before


def test_missing_file_is_refused(tmp_path):
    refuse(
        [tmp_path / "no.mp4", *POINT, "-o", tmp_path / "o.mov"],
        "no such file or folder; check",
        folder=tmp_path,
    )


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "shot").mkdir()
    (tmp_path / "shot" / "notes.txt").write_text("no image")
    refuse(
        [tmp_path / "shot", *POINT, "-o", tmp_path / "o.mov"],
        "holds no images; looked for .png",
        folder=tmp_path,
    )


def test_audio_only_is_refused(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    refuse([path, *POINT, "-o", tmp_path / "o.mov"], "has no picture, only audio", folder=tmp_path)


def test_zero_bytes_is_refused(tmp_path):
    (tmp_path / "empty.mp4").touch()
    refuse(
        [tmp_path / "empty.mp4", *POINT, "-o", tmp_path / "o.mov"],
        "is empty (0 bytes)",
        folder=tmp_path,
    )


def test_random_bytes_is_refused(tmp_path):
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    refuse(
        [tmp_path / "noise.mp4", *POINT, "-o", tmp_path / "o.mov"],
        "cannot be opened as a movie",
        folder=tmp_path,
    )


@pytest.fixture(scope="module")
def truncated(tmp_path_factory):
    """Return a movie with its index first and last third cut off, and its number of frames."""
    folder = tmp_path_factory.mktemp("truncated")
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (96, 160, 3), np.uint8) for _ in range(30)]
    whole = write_movie(
        folder / "whole.mp4", frames=30, pictures=pictures, options={"g": "5", "bf": "0"}
    )
    with (
        av.open(str(whole)) as source,
        av.open(str(folder / "f.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (folder / "f.mp4").read_bytes()
    path = folder / "cut.mp4"
    path.write_bytes(data[: len(data) * 2 // 3])
    with av.open(str(path)) as source:
        size = path.stat().st_size
        entries = source.streams.video[0].index_entries
        whole_frames = sum(1 for entry in entries if entry.pos + entry.size <= size)
    assert 5 < whole_frames < 25
    return path, whole_frames


def test_truncated_movie_names_the_frame(truncated, tmp_path):
    path, frames = truncated
    refuse(
        [path, *POINT, "-o", tmp_path / "o.mov"],
        f"truncated or damaged at frame {frames}",
        folder=tmp_path,
    )


def test_truncated_movie_can_be_matted_as_far_as_it_goes(truncated, tmp_path):
    path, frames = truncated
    target = tmp_path / "a.mkv"
    result = CliRunner().invoke(
        cli, [str(path), *POINT, "--allow-truncated", "--alpha", str(target), *SMALL]
    )
    assert result.exit_code == 0, result.output
    with av.open(str(target)) as matte:
        assert sum(1 for _ in matte.decode(video=0)) >= frames


def test_truncated_matroska_stops_with_the_frame(tmp_path):
    # Matroska has no index to check beforehand: the damage shows while decoding.
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (96, 160, 3), np.uint8) for _ in range(30)]
    path = write_movie(
        tmp_path / "c.mkv", frames=30, pictures=pictures, codec="ffv1", pixel_format="yuv420p"
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refuse(
        [path, *POINT, "-o", tmp_path / "o.mov"], "truncated or damaged at frame 1", folder=tmp_path
    )


@pytest.mark.parametrize("point", ["160,20", "20,96", "5,-1"])
def test_point_outside_the_frame_is_refused(movie, tmp_path, point):
    refuse(
        [movie, f"--points={point}", "-o", tmp_path / "o.mov"],
        "outside the frame of 160x96",
        code=2,
        folder=tmp_path,
    )


def test_reference_frame_past_the_end_is_refused(movie, tmp_path):
    arguments = [movie, "--ref-frame", "12", *POINT, "-o", tmp_path / "o.mov"]
    refuse(
        arguments,
        "frame 12 does not exist: there are 12 frames, counted from 0",
        code=2,
        folder=tmp_path,
    )


def write_mask(path, value, size=(96, 160)):
    cv2.imwrite(str(path), np.full(size, value, np.uint8))
    return path


def test_mask_of_another_size_is_refused(movie, tmp_path):
    mask = write_mask(tmp_path / "m.png", 255, (48, 80))
    refuse(
        [movie, "--mask", mask, "-o", tmp_path / "o.mov"],
        "is 80x48, but the frame is 160x96",
        code=2,
        folder=tmp_path,
    )


def test_empty_mask_is_refused(movie, tmp_path):
    mask = write_mask(tmp_path / "m.png", 0)
    refuse(
        [movie, "--mask", mask, "-o", tmp_path / "o.mov"],
        "the mask is empty",
        code=2,
        folder=tmp_path,
    )


def test_missing_mask_is_refused(movie, tmp_path):
    refuse(
        [movie, "--mask", tmp_path / "no.png", "-o", tmp_path / "o.mov"],
        "cannot be read",
        folder=tmp_path,
    )


def test_frames_that_change_size_midway_are_refused(tmp_path):
    # Two elementary streams of different size, one after the other.
    options = {"codec": "mjpeg", "pixel_format": "yuvj420p", "frames": 8}
    small = write_movie(tmp_path / "a.mjpeg", **options)
    large = write_movie(tmp_path / "b.mjpeg", size=(192, 112), **options)
    joined = tmp_path / "joined.mjpeg"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    small.unlink()
    large.unlink()
    refuse(
        [joined, *POINT, "-o", tmp_path / "o.mov"],
        "changes from 160x96 to 192x112 at frame 8",
        folder=tmp_path,
    )


def test_sequence_that_changes_size_midway_is_refused(tmp_path):
    (tmp_path / "shot").mkdir()
    for number, size in ((1, (96, 160)), (2, (96, 160)), (3, (90, 160))):
        write_mask(tmp_path / "shot" / f"s.{number:04d}.png", 99, size)
    message = "s.0003.png: is 160x90, but the sequence began with 160x96"
    refuse([tmp_path / "shot", *POINT, "-o", tmp_path / "o.mov"], message, folder=tmp_path)


def test_unknown_extension_is_refused(movie, tmp_path):
    refuse([movie, *POINT, "-o", tmp_path / "o.gif"], ".mov", code=2, folder=tmp_path)


def test_output_folder_that_is_a_file_is_refused(movie, tmp_path):
    (tmp_path / "file").touch()
    refuse([movie, *POINT, "-o", tmp_path / "file" / "o.mov"], "is not a folder", folder=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of another kind")
def test_output_folder_without_write_access_is_refused(movie):
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        clip = shutil.copy(movie, public)
        os.chmod(clip, 0o644)
        locked = Path(public) / "locked"
        locked.mkdir(mode=0o555)
        with as_ordinary_user():
            refuse(
                [clip, *POINT, "-o", locked / "o.mov"],
                "is not writable; choose another",
                folder=Path(public),
            )


def test_existing_output_is_refused(movie, tmp_path):
    (tmp_path / "o.mov").write_text("precious")
    refuse([movie, *POINT, "-o", tmp_path / "o.mov"], "--overwrite", folder=tmp_path)
    assert (tmp_path / "o.mov").read_text() == "precious"


def test_output_over_the_input_is_refused(movie, tmp_path):
    shutil.copy(movie, tmp_path / "clip.mov")
    arguments = [tmp_path / "clip.mov", *POINT, "-o", tmp_path / "clip.mov", "--overwrite"]
    refuse(arguments, "would be written over an input", code=2, folder=tmp_path)


def test_a_new_folder_below_the_inputs_is_no_input(tmp_path, monkeypatch):
    """Refused before: the folder above, where it will be made, holds files of these names."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        cv2.imwrite(f"{name}.png", np.full((48, 64, 3), 90, np.uint8))
    marks = ("--images", "--reference", "a.png", "--box", "8,8,40,40", "--device", "cpu")
    done = CliRunner().invoke(cli, [".", *marks, *SMALL, "-o", "new/{name}.png"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in Path("new").iterdir()) == ["a.png", "b.png"]
    over = [".", *marks, "--overwrite", "-o", "{name}.png"]
    refuse(over, "would be written over an input", code=2, folder=tmp_path)


def test_run_without_marks_is_refused(movie, tmp_path):
    refuse([movie, "-o", tmp_path / "o.mov"], "nothing is marked", code=2, folder=tmp_path)


def test_unknown_model_is_refused(movie, tmp_path):
    refuse(
        [movie, *POINT, "--model", "u2", "-o", tmp_path / "o.mov"],
        "neither a known name (compact",
        code=2,
        folder=tmp_path,
    )


def test_device_that_is_not_there_is_refused(movie, tmp_path):
    refuse(
        [movie, *POINT, "--device", "cuda:77", "-o", tmp_path / "o.mov"],
        "device 'cuda:77'",
        code=2,
        folder=tmp_path,
    )


def test_frame_rate_of_a_movie_is_refused(movie, tmp_path):
    refuse(
        [movie, *POINT, "--fps", "30", "-o", tmp_path / "o.mov"],
        "has its own frame rate",
        code=2,
        folder=tmp_path,
    )


def test_several_inputs_need_images(movie, tmp_path):
    refuse(
        [movie, movie, *POINT, "-o", tmp_path / "o.mov"], "add --images", code=2, folder=tmp_path
    )


def test_in_point_after_out_point_is_refused(movie, tmp_path):
    arguments = [movie, *POINT, "--start", "8", "--end", "3", "-o", tmp_path / "o.mov"]
    refuse(arguments, "lies before in point", code=2, folder=tmp_path)


def test_in_point_past_the_end_is_refused(movie, tmp_path):
    refuse(
        [movie, *POINT, "--start", "99", "-o", tmp_path / "o.mov"],
        "there are 12 frames",
        code=2,
        folder=tmp_path,
    )


def test_marks_must_match_the_reference_frames(movie, tmp_path):
    arguments = [movie, "--ref-frame", "0", "--ref-frame", "3", *POINT, "-o", tmp_path / "o.mov"]
    refuse(arguments, "2 reference frames, but 1 values of points", code=2, folder=tmp_path)


def test_damaged_prompt_file_is_refused(movie, tmp_path):
    (tmp_path / "p.json").write_text("[1, 2")
    refuse(
        [movie, "--prompts", tmp_path / "p.json", "-o", tmp_path / "o.mov"],
        "is not JSON",
        code=2,
        folder=tmp_path,
    )


def test_debug_shows_the_traceback(tmp_path):
    result = CliRunner().invoke(cli, [str(tmp_path / "no.mp4"), *POINT, "--debug"])
    assert type(result.exception).__name__ == "ReadError"


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_full_disk_leaves_no_output(movie, tmp_path):
    # A limit on the size of files stands in for the end of the disk: the same failing write,
    # without root rights.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from vidmatte.__main__ import main; main()"
    )
    target = tmp_path / "o.mov"
    command = [
        sys.executable,
        "-c",
        code,
        str(movie),
        *POINT,
        *SMALL,
        "--adapt-steps",
        "0",
        "-o",
        str(target),
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "o.mov" in done.stderr
    assert list(tmp_path.iterdir()) == []
