"""The whole flow on small clips: outputs have the frames, times, size and sound of the input."""

import functools
import json
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

import vidmatte
from vidmatte.cli import cli

SMALL = vidmatte.MatteOptions(working_size=128)
POINT = vidmatte.Prompt(points=((80, 24, 1),))


def moving_disc(frames=12, size=(96, 160)):
    """Pictures of a textured disc over a textured background, and the disc's mask in each frame."""
    rng = np.random.default_rng(0)
    back = cv2.resize(
        rng.integers(0, 120, (12, 20, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    disc = cv2.resize(
        rng.integers(140, 256, (12, 20, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[: size[0], : size[1]]
    masks = [np.hypot(y - 48, x - 50 - 4 * n) < 24 for n in range(frames)]
    return [
        np.where(mask[..., None], np.roll(disc, 4 * n, 1), back) for n, mask in enumerate(masks)
    ], masks


@pytest.fixture(scope="module")
def disc(tmp_path_factory):
    """A clip of a moving disc, with the mask image of each frame beside it, and the masks."""
    folder = tmp_path_factory.mktemp("disc")
    pictures, masks = moving_disc()
    times = [0, 3, 5, 9, 14, 15, 18, 22, 23, 27, 31, 36]  # variable rate
    clip = write_movie(
        folder / "disc.mp4",
        frames=12,
        pictures=pictures,
        times=times,
        time_base=Fraction(1, 100),
        sound=True,
        options={"crf": "8", "g": "5"},
    )
    for n, mask in enumerate(masks):
        cv2.imwrite(str(folder / f"mask{n}.png"), mask.astype(np.uint8) * 255)
    return clip, masks


def read_gray(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        base = container.streams.video[0].time_base
        return np.stack([f.to_ndarray(format="gray16le") / 65535 for f in frames]), [
            f.pts * base for f in frames
        ]


def overlaps(alpha, masks):
    return [
        ((a > 0.5) & m).sum() / ((a > 0.5) | m).sum() for a, m in zip(alpha, masks, strict=True)
    ]


@pytest.mark.parametrize("frame", [0, 6, 11])
def test_one_marked_frame_gives_mattes_of_all_frames(disc, tmp_path, frame):
    clip, masks = disc
    prompt = vidmatte.Prompt(frame=frame, mask=clip.with_name(f"mask{frame}.png"))
    summary = vidmatte.matte(clip, prompt, alpha=tmp_path / "a.mkv", options=SMALL)
    alpha, _ = read_gray(tmp_path / "a.mkv")
    assert summary.frames == len(alpha) == 12
    assert min(overlaps(alpha, masks)) > 0.75


def test_one_click_makes_a_matte(disc, tmp_path):
    clip, masks = disc
    vidmatte.matte(
        clip, vidmatte.Prompt(points=((50, 48, 1),)), alpha=tmp_path / "a.mkv", options=SMALL
    )
    alpha, _ = read_gray(tmp_path / "a.mkv")
    assert overlaps(alpha, masks)[0] > 0.5


def test_frames_times_size_and_sound_are_kept(disc, tmp_path):
    clip, _ = disc
    prompt = vidmatte.Prompt(mask=clip.with_name("mask0.png"))
    vidmatte.matte(
        clip, prompt, output=[tmp_path / "o.mov"], alpha=tmp_path / "a.mov", options=SMALL
    )
    with av.open(str(clip)) as source, av.open(str(tmp_path / "o.mov")) as matte:
        times = [f.pts * source.streams.video[0].time_base for f in source.decode(video=0)]
        frames = list(matte.decode(video=0))
        assert [f.pts * matte.streams.video[0].time_base for f in frames] == times
        assert {(f.width, f.height) for f in frames} == {(160, 96)}
        assert frames[0].format.name.startswith("yuva444p1")
        assert len(matte.streams.audio) == 1


def test_opaque_pixels_keep_the_source_colour(disc, tmp_path):
    clip, _ = disc
    prompt = vidmatte.Prompt(mask=clip.with_name("mask0.png"))
    vidmatte.matte(clip, prompt, output=tmp_path / "o.%04d.png", options=SMALL)
    with vidmatte.open_video(clip) as video:
        for frame in video.decode():
            written = cv2.imread(str(tmp_path / f"o.{frame.index:04d}.png"), cv2.IMREAD_UNCHANGED)
            opaque = written[..., 3] == 65535
            rgb = written[..., 2::-1].transpose(2, 0, 1) / 65535
            assert opaque.sum() > 500
            assert np.abs(rgb - frame.rgb.clip(0, 1))[:, opaque].max() <= 0.5 / 65535 + 1e-7


def test_two_references_are_both_used(disc, tmp_path):
    clip, masks = disc
    prompts = [vidmatte.Prompt(frame=n, mask=clip.with_name(f"mask{n}.png")) for n in (2, 9)]
    vidmatte.matte(clip, prompts, alpha=tmp_path / "a.mkv", options=SMALL)
    alpha, _ = read_gray(tmp_path / "a.mkv")
    assert min(overlaps(alpha, masks)) > 0.75


def test_in_and_out_points_cut_picture_and_sound(disc, tmp_path):
    clip, masks = disc
    prompt = vidmatte.Prompt(mask=clip.with_name("mask0.png"))
    options = vidmatte.MatteOptions(working_size=128, start="3", end="7")
    summary = vidmatte.matte(
        clip, prompt, alpha=[tmp_path / "a.mkv", tmp_path / "a.mov"], options=options
    )
    alpha, times = read_gray(tmp_path / "a.mkv")
    assert (summary.frames, summary.first_frame) == (5, 3)
    assert min(overlaps(alpha, masks[3:8])) > 0.75
    assert times == [Fraction(t - 9, 100) for t in (9, 14, 15, 18, 22)]


def test_the_same_command_writes_the_same_bits_for_any_batch_size(disc, tmp_path):
    clip, _ = disc
    prompt = vidmatte.Prompt(frame=5, mask=clip.with_name("mask5.png"))
    for name, batch_size in (("a", 1), ("b", 1), ("c", 5)):
        options = vidmatte.MatteOptions(working_size=128, batch_size=batch_size, smooth=0.5)
        vidmatte.matte(clip, prompt, alpha=tmp_path / f"{name}.mkv", options=options)
    first = (tmp_path / "a.mkv").read_bytes()
    assert np.array_equal(read_gray(tmp_path / "a.mkv")[0], read_gray(tmp_path / "b.mkv")[0])
    assert np.array_equal(read_gray(tmp_path / "a.mkv")[0], read_gray(tmp_path / "c.mkv")[0])
    assert len(first) == len((tmp_path / "b.mkv").read_bytes())


def test_a_sequence_keeps_its_numbers(disc, tmp_path):
    clip, masks = disc
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    pictures, _ = moving_disc(4)
    for n, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "in" / f"plate.{1001 + n}.png"), picture[..., ::-1])
    prompt = vidmatte.Prompt(mask=clip.with_name("mask0.png"))
    vidmatte.matte(
        tmp_path / "in", prompt, alpha=tmp_path / "out" / "matte.%04d.png", options=SMALL
    )
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["matte.1001.png", "matte.1002.png", "matte.1003.png", "matte.1004.png"]
    alpha = [
        cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED) / 65535 for name in names
    ]
    assert min(overlaps(alpha, masks[:4])) > 0.75


def test_a_set_of_images_is_matted_from_one_reference_image(disc, tmp_path):
    clip, _ = disc
    (tmp_path / "photos").mkdir()
    pictures, masks = moving_disc()
    for name, n, scale in (("one", 3, 1), ("two", 8, 2)):
        picture = cv2.resize(pictures[n], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), picture[..., ::-1])
    cv2.imwrite(str(tmp_path / "hero.png"), pictures[0][..., ::-1])
    marks = ["--reference", str(tmp_path / "hero.png"), "--mask", str(clip.with_name("mask0.png"))]
    target = ["-o", str(tmp_path / "{name}_cut.png"), "--working-size", "128"]
    result = CliRunner().invoke(cli, [str(tmp_path / "photos"), "--images", *marks, *target])
    assert result.exit_code == 0, result.output
    for name, n, scale in (("one", 3, 1), ("two", 8, 2)):
        cut = cv2.imread(str(tmp_path / f"{name}_cut.png"), cv2.IMREAD_UNCHANGED)
        assert cut.shape == (96 * scale, 160 * scale, 4)
        mask = cv2.resize(masks[n].astype(np.uint8), None, fx=scale, fy=scale) > 0
        assert overlaps([cut[..., 3] / 65535], [mask])[0] > 0.6


@pytest.mark.parametrize("size", [(97, 161), (33, 20), (64, 400)])
def test_odd_sizes_are_matted(tmp_path, size):
    pictures = [np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8) for n in range(2)]
    clip = write_movie(
        tmp_path / "c.mkv",
        frames=2,
        size=size[::-1],
        pictures=pictures,
        codec="ffv1",
        pixel_format="yuv444p",
    )
    prompt = vidmatte.Prompt(points=((size[1] // 2, size[0] // 2, 1),))
    outputs = [tmp_path / "o.mov", tmp_path / "o.webm"]
    alphas = [tmp_path / f"a{suffix}" for suffix in (".mkv", ".mov", ".mp4", ".webm")]
    summary = vidmatte.matte(clip, prompt, output=outputs, alpha=alphas, options=SMALL)
    for file in summary.outputs:
        with av.open(str(file.path)) as out:
            frame = next(out.decode(video=0))
            assert (frame.height, frame.width) == size


def test_json_is_one_object_of_the_agreed_shape(movie, tmp_path):
    command = [
        str(movie),
        "--points",
        "80,24",
        "--alpha",
        str(tmp_path / "a.mkv"),
        "--json",
        "--working-size",
        "128",
    ]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document) >= {
        "input",
        "frames",
        "seconds",
        "fps",
        "model",
        "device",
        "outputs",
        "confidence",
    }
    assert document["frames"] == 12
    assert document["outputs"] == [
        {
            "path": str(tmp_path / "a.mkv"),
            "kind": "alpha",
            "codec": "ffv1",
            "pixel_format": "gray16le",
            "frames": 12,
        }
    ]
    assert set(document["confidence"]) == {
        "mean",
        "min",
        "frames",
        "suggested_reference_frames",
    }
    assert "12 frames in" in result.stderr


def test_outputs_by_default_lie_in_the_working_directory(movie, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        cli, [str(movie), "--points", "80,24", "--working-size", "128", "--quiet"]
    )
    assert (result.exit_code, result.output) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip_alpha.mov", "clip_matte.mov"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_says_how_far_it_came_and_leaves_nothing(tmp_path, stop):
    pictures = [np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)] * 400
    clip = write_movie(
        tmp_path / "long.mp4", frames=400, pictures=pictures, options={"preset": "ultrafast"}
    )
    (tmp_path / "out").mkdir()
    outputs = [
        "-o",
        str(tmp_path / "out" / "o.mov"),
        "--alpha",
        str(tmp_path / "out" / "a.%04d.png"),
    ]
    command = [
        sys.executable,
        "-m",
        "vidmatte",
        str(clip),
        "--points",
        "80,24",
        "--adapt-steps",
        "0",
        *outputs,
    ]
    # A shell's background jobs inherit an ignored SIGINT, and pass it on.
    unignored = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=unignored)
    while not any((tmp_path / "out").rglob("*.png")):  # frames are being written
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(stop)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    last = text.strip().splitlines()[-1]
    assert last.startswith("Interrupted after ")
    assert "of 400 frames; no output is in place" in last
    assert "Traceback" not in text
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_an_interruption_on_the_way_back_leaves_nothing(tmp_path):
    pictures = [np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)] * 2000
    clip = write_movie(
        tmp_path / "long.mp4", frames=2000, pictures=pictures, options={"preset": "ultrafast"}
    )
    (tmp_path / "out").mkdir()
    command = [
        sys.executable,
        "-m",
        "vidmatte",
        str(clip),
        "--ref-frame",
        # Far from the ends of a segment: a chunk of one frame would be done, and kept, at once.
        "1750",
        "--points",
        "80,24",
        "--adapt-steps",
        "0",
    ]
    unignored = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "out" / "o.mov")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=unignored,
    )
    while not any((tmp_path / "out").iterdir()):  # outputs are created just before following begins
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert list((tmp_path / "out").iterdir()) == []


def test_an_error_in_the_progress_callback_comes_out_as_it_is(disc, tmp_path):
    clip, _ = disc

    def fail(now):
        if now.done:
            raise LookupError("of the caller")

    prompt = vidmatte.Prompt(mask=clip.with_name("mask0.png"))
    for _ in range(3):
        with pytest.raises(LookupError, match="of the caller"):
            vidmatte.matte(clip, prompt, output=tmp_path / "o.mov", options=SMALL, progress=fail)
    assert list(tmp_path.iterdir()) == []
    assert not any(thread.name.startswith("vidmatte") for thread in threading.enumerate())


def test_clips_off_a_terminal_get_a_line_every_few_seconds(capsys, monkeypatch):
    from vidmatte.cli import progress

    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    line = progress.ProgressLine()
    for second in range(1, 13):
        clock[0] = float(second)
        line.update(second * 10, 240)
    assert capsys.readouterr().err.splitlines() == [
        "50 of 240 frames, 10.00 frames/s, 19 s left",
        "100 of 240 frames, 10.00 frames/s, 14 s left",
    ]
