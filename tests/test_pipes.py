"""Standard input and output in place of files, and what else scripts need of the command line."""

from __future__ import annotations

import io
import json
import logging
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

from vidmatte.cli import cli
from vidmatte.errors import OptionError, ReadError, WriteError
from vidmatte.frames import FrameBatch
from vidmatte.model.weights import PARTS, WEIGHTS
from vidmatte.option_table import GROUPS, OPTIONS
from vidmatte.options import MatteOptions
from vidmatte.pipeline.outputs import OutputPlan
from vidmatte.pipeline.raw import matte_to_stream, parse_size, received
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.source import Source
from vidmatte.prompts.objects import ObjectPrompts

SIZE = (16, 8)
FRAMES = 3


@pytest.fixture
def matte(tmp_path):
    """A matte of 128, left half only."""
    path = tmp_path / "matte.png"
    plane = np.zeros(SIZE[::-1], np.uint8)
    plane[:, :8] = 128
    cv2.imwrite(str(path), plane)
    return path


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (FRAMES, SIZE[1], SIZE[0], 3), dtype=np.uint8)


def run(*arguments, **more):
    return CliRunner().invoke(cli, [*map(str, arguments)], **more)


def test_raw_frames_come_in_and_go_out(frames, matte):
    given = ("--raw", "16x8", "--model", "none", "--matte", matte, "--foreground", "source")
    result = run("-", *given, "-o", "-", input=frames.tobytes())
    assert result.exit_code == 0, result.stderr
    sent = np.frombuffer(result.stdout_bytes, np.uint8).reshape(FRAMES, SIZE[1], SIZE[0], 4)
    assert np.array_equal(sent[..., :3], frames)
    assert np.array_equal(sent[..., 3], np.broadcast_to(cv2.imread(str(matte), 0), sent.shape[:3]))
    assert "3 raw frames of RGBA" in result.stderr


def test_alpha_alone_is_one_byte_a_pixel_and_quiet_is_quiet(frames, matte):
    given = ("--raw", "16x8", "--model", "none", "--matte", matte, "--quiet")
    result = run("-", *given, "--alpha", "-", input=frames.tobytes())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == cv2.imread(str(matte), 0).tobytes() * FRAMES


def test_a_movie_comes_in_by_its_container_and_a_file_goes_out(tmp_path, matte):
    clip = write_movie(tmp_path / "clip.mkv", frames=4, size=SIZE)
    given = ("--model", "none", "--matte", matte, "--alpha", tmp_path / "a.mkv", "--json")
    result = run("-", *given, input=clip.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["frames"] == 4
    clip_out = run(clip, *given[:4], "--alpha", "-")
    assert clip_out.stdout_bytes == cv2.imread(str(matte), 0).tobytes() * 4


def test_frames_of_a_pipe_have_a_rate(frames, matte, tmp_path):
    target = tmp_path / "a.mkv"
    given = ("--raw", "16x8", "--fps", "50", "--model", "none", "--matte", matte)
    assert run("-", *given, "--alpha", target, input=frames.tobytes()).exit_code == 0
    assert cv2.VideoCapture(str(target)).get(cv2.CAP_PROP_FPS) == 50


@pytest.mark.parametrize(
    ("arguments", "data", "code", "message"),
    [
        (("-", "--points", "1,1"), b"", 1, "standard input: is empty"),
        (("-", "--raw", "16x8", "--points", "1,1"), b"abc", 1, "3 bytes came"),
        (("-", "--raw", "16", "--points", "1,1"), b"abc", 2, "write 1920x1080"),
        (("clip.mp4", "--raw", "16x8", "--points", "1,1"), b"", 2, "clip.mp4 was given: use -"),
        (("-", "x.mp4", "--points", "1,1"), b"", 2, "- is one clip"),
        (("-", "--points"), b"", 2, "the picker needs a file"),
        (("a.mp4", "--points", "1,1", "-o", "-", "-o", "b.mov"), b"", 2, "- takes one output"),
        (("a.mp4", "--points", "1,1", "-o", "-", "--json"), b"", 2, "- takes one output"),
    ],
)
def test_what_no_pipe_can_carry_is_refused(arguments, data, code, message):
    result = run(*arguments, input=data)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_terminal_is_not_filled_with_frames(monkeypatch):
    monkeypatch.setattr(
        "click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False
    )
    result = run("a.mp4", "--points", "1,1", "-o", "-")
    assert result.exit_code == 2
    assert "would fill this terminal" in result.stderr


class Closed(io.BytesIO):
    """A pipe whose reader is gone after some writes."""

    def __init__(self, writes):
        super().__init__()
        self._left = writes

    def write(self, data):
        self._left -= 1
        if self._left < 0:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(data)


def test_a_reader_that_ends_early_is_one_line(frames, matte):
    options = MatteOptions(model="none", matte=matte)
    request = Request(Source.of(frames), ObjectPrompts.of(()), OutputPlan(), options)
    with pytest.raises(WriteError, match=r"closed after 2 frames \(Broken pipe\)"):
        matte_to_stream(request, Closed(2), alpha_only=True)


def test_received_frames_are_those_that_were_sent(frames):
    with received(io.BytesIO(frames.tobytes()), parse_size("16x8")) as source:
        assert np.array_equal(source, frames)
        assert isinstance(FrameBatch, type)
    with pytest.raises(ReadError), received(io.BytesIO(b"ab"), (1, 1)):
        pass
    with pytest.raises(OptionError):
        parse_size("0x4")


@pytest.fixture
def clip(tmp_path):
    return write_movie(tmp_path / "clip.mp4", frames=4, size=SIZE)


def test_json_has_what_a_script_needs(clip, matte, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ("--model", "none", "--matte", matte, "--start", "1", "--grow", "0.5")
    summary = json.loads(run("clip.mp4", *given, "--alpha", "a.mkv", "--json").stdout)
    assert summary["schema_version"] == 1
    assert summary["input"] == str(clip)
    assert [output["path"] for output in summary["outputs"]] == [str(tmp_path / "a.mkv")]
    assert summary["confidence"]["frames"] == [1.0] * 3
    assert summary["options"]["grow"] == 0.5
    assert summary["options"]["model"] == "none"
    assert (summary["first_frame"], summary["weights"]) == (1, [])
    stages = summary["stages"]
    assert set(stages) == {"model", "references", "frames"}
    assert sum(stages.values()) == pytest.approx(summary["seconds"], abs=0.01)
    assert summary["fps"] == pytest.approx(3 / stages["frames"], rel=0.1)


def test_json_names_the_weights(clip, tmp_path):
    given = ("--points", "4,4", "--working-size", 128, "--adapt-steps", 0, "--device", "cpu")
    summary = json.loads(run(clip, *given, "--alpha", tmp_path / "a.mkv", "--json").stdout)
    hashes = [WEIGHTS["compact"].sha256, *(part.sha256 for part in PARTS.values())]
    assert [weights["sha256"] for weights in summary["weights"]] == hashes


def test_a_log_file_keeps_what_is_said_and_what_went_wrong(clip, matte, tmp_path):
    log = tmp_path / "run.log"
    given = ("--model", "none", "--matte", matte, "--log-file", log, "--quiet")
    assert run(clip, *given, "--alpha", tmp_path / "a.mkv").stderr == ""
    assert "INFO" in log.read_text()
    assert "4 frames in" in log.read_text()
    result = run(clip, *given, "--alpha", tmp_path / "a.mkv")
    assert "exists already" in result.stderr
    assert "Stopped: " in log.read_text().splitlines()[-1]
    assert logging.getLogger("vidmatte").handlers == []
    refused = run(clip, "--points", "1,1", "--log-file", tmp_path / "no" / "run.log")
    assert refused.exit_code == 2
    assert "name another file" in refused.stderr


def test_verbose_says_how_long_each_stage_took(clip, matte, tmp_path):
    given = ("--model", "none", "--matte", matte, "--alpha")
    assert "references 0.0 s" in run(clip, *given, tmp_path / "a.mkv", "-v").stderr
    assert "references" not in run(clip, *given, tmp_path / "b.mkv").stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VIDMATTE_DEVICE", "warp", "device 'warp'"),
        ("VIDMATTE_MODEL", "nothing", "nothing"),
        ("VIDMATTE_THREADS", "0", "threads 0 is not valid"),
    ],
)
def test_variables_set_options_for_a_machine(clip, tmp_path, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    result = run(clip, "--points", "4,4", "--alpha", tmp_path / "a.mkv")
    assert result.exit_code != 0
    assert message in result.stderr


def test_help_has_every_option_once_in_its_group():
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(OPTIONS)
    text = run("matte", "--help").stdout
    places = [text.index(f"{title}:") for title in (*GROUPS, "Run")]
    assert places == sorted(places)
    assert text.index("Marks:") < text.index("--points") < text.index("Model:")
    assert text.index("Run:") < text.index("--log-file")
    assert "VIDMATTE_DEVICE" in text
    assert sys.stdout
