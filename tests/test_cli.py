"""The command line as a program: what it loads, its exit codes, and its standard streams."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

from vidmatte.cli import _COMMANDS, cli
from vidmatte.cli.demo import compare
from vidmatte.errors import OptionError
from vidmatte.media.lock import exclusive
from vidmatte.option_table import (
    MANIFEST_KEYS,
    OPTIONS,
    make_options,
    manifest_schema,
    options_as_markdown,
)
from vidmatte.options import Despill, FinishOptions, MatteOptions

ROOT = Path(__file__).parents[1]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of another kind")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with a clip of 4 frames and a matte for it: nothing has to be computed."""
    folder = tmp_path_factory.mktemp("job")
    write_movie(folder / "clip.mp4", frames=4, size=(32, 32))
    cv2.imwrite(str(folder / "matte.png"), np.full((32, 32), 255, np.uint8))
    (folder / "shots.toml").write_text(
        '[[shots]]\ninput = "clip.mp4"\nmodel = "none"\nmatte = "matte.png"\nalpha = "batch.mkv"\n'
    )
    return folder


def program(folder, *arguments, **streams):
    return subprocess.run(
        [sys.executable, "-m", "vidmatte", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=300,
        **streams,
    )


GIVEN = ("clip.mp4", "--model", "none", "--matte", "matte.png")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("matte", "--help"), ("pick", "--help")]
)
def test_help_loads_nothing_heavy(arguments):
    heavy = ("torch", "numpy", "cv2", "av", "rich", "diffusers", "vidmatte.model", "vidmatte.read")
    code = f"""
import sys
from vidmatte.cli import cli
try:
    cli({list(arguments)})
except SystemExit as end:
    assert not end.code
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_list_of_commands_says_what_their_own_help_says():
    context = click.Context(cli)
    for name, summary in _COMMANDS.items():
        sentence = cli.get_command(context, name).help.partition(".\n")[0].partition(": ")[0]
        first_words = sentence.split()[:2]
        assert summary.split()[:2] == first_words, name


def without_stderr(kind):
    """How to start a program whose standard error is gone."""
    if kind == "closed":
        return {"preexec_fn": lambda: os.close(2)}
    if kind == "full disk":
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        return {"stderr": os.open("/dev/full", os.O_WRONLY)}
    read, write = os.pipe()
    os.close(read)
    return {"stderr": write}


@POSIX
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (GIVEN, "closed"),
        (GIVEN, "broken pipe"),
        (GIVEN, "full disk"),
        (("batch", "shots.toml"), "broken pipe"),
    ],
)
def test_a_standard_error_that_is_gone_stops_nothing(job, tmp_path, command, kind):
    target = tmp_path / "out.mkv"
    output = ("--alpha", str(target)) if command is GIVEN else ("--set", f"alpha={target}")
    streams = without_stderr(kind)
    done = program(job, *command, *output, stdout=subprocess.PIPE, **streams)
    if "stderr" in streams:
        os.close(streams["stderr"])
    assert done.returncode == 0
    assert target.stat().st_size > 100


@FULL
def test_a_full_disk_behind_the_json_is_one_line_and_leaves_the_outputs(job, tmp_path):
    target = tmp_path / "out.mkv"
    with open("/dev/full", "w") as full:
        done = program(
            job,
            *GIVEN,
            "--alpha",
            str(target),
            "--quiet",
            "--json",
            stdout=full,
            stderr=subprocess.PIPE,
        )
    said = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(said) == 1
    assert "standard output cannot be written (No space left on device)" in said[0]
    assert target.exists()


def invoke(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("--points", "1,1,7"), "PromptError", "label"),
        (("--points", "x"), "PromptError", "point 'x'"),
        (("--box", "1,2"), "PromptError", "box '1,2'"),
        (("--points", "400,1"), "PromptError", "outside the frame"),
        (("--points", "1,1", "--ref-frame", "9"), "OptionError", "frame 9 does not exist"),
        (("--points", "1,1", "--model", "u2"), "OptionError", "neither a known name"),
        (("--points", "1,1", "--start", "9"), "OptionError", "there are 4 frames"),
        (("--mask", "small.png"), "PromptError", "is 3x2, but the frame is 32x32"),
        (("--points", "1,1", "--smooth", "2"), "OptionError", "smooth 2 is not valid"),
        (("--points", "1,1", "--precision", "int8"), "UsageError", "int8"),
        (("--nothing",), "UsageError", "--nothing"),
    ],
)
def test_usage_errors_exit_with_2_and_are_json_if_asked_for(
    job, tmp_path, monkeypatch, arguments, kind, message
):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("small.png", np.full((2, 3), 255, np.uint8))
    result = invoke(job / "clip.mp4", *arguments, "--working-size", "128", "--json")
    assert result.exit_code == 2, result.output
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"]) == (kind, 2)
    assert message in error["message"]
    assert message in result.stderr


@pytest.mark.parametrize(("word", "meant"), [("pik", "pick"), ("bach", "batch"), ("Demo", "demo")])
def test_a_misspelt_command_is_named(tmp_path, monkeypatch, word, meant):
    monkeypatch.chdir(tmp_path)
    result = invoke(word, "clip.mp4")
    assert result.exit_code == 2
    assert f"did you mean 'vidmatte {meant}'?" in result.stderr
    (tmp_path / word).touch()
    assert "did you mean" not in invoke(word, "--points", "1,1").stderr


def test_the_demo_writes_the_sample_mattes_it_and_compares(tmp_path, monkeypatch):
    """With a matte that is exact except for the first frame, where half of the frame is wrong."""
    folder = tmp_path / "new" / "demo"

    def matte(source, prompts, *, output, alpha, **given):
        assert source == folder / "portrait.mp4"
        assert [prompt.points for prompt in prompts["astronaut"]]
        with resources.as_file(resources.files("vidmatte.sample") / "portrait_alpha.mkv") as truth:
            shutil.copy(truth, alpha)
        return None

    monkeypatch.setattr("vidmatte.pipeline.run.matte", matte)
    result = invoke("demo", folder, "--quiet")
    assert result.exit_code == 0, result.output
    assert "100 frames against the exact alpha: MAD 0.0000" in result.stdout
    assert "overlap J 1.0000" in result.stdout
    assert cv2.VideoCapture(str(folder / "portrait.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 100


def test_the_demo_keeps_a_file_of_another_kind(tmp_path):
    (tmp_path / "portrait.mp4").write_text("mine")
    result = invoke("demo", tmp_path)
    assert result.exit_code == 2
    assert "is another file than that of the sample" in result.stderr
    assert (tmp_path / "portrait.mp4").read_text() == "mine"


def test_an_alpha_of_another_length_is_not_compared(tmp_path):
    for name, frames in (("a.mkv", 3), ("b.mkv", 4)):
        write_movie(tmp_path / name, frames=frames, size=(16, 16))
    with pytest.raises(OptionError, match="number of frames"):
        compare(tmp_path / "a.mkv", tmp_path / "b.mkv")


def test_failures_exit_with_1_and_are_json_if_asked_for(tmp_path):
    result = invoke(tmp_path / "no.mp4", "--points", "1,1", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["type"], error["exit_code"]) == (1, "ReadError", 1)
    assert "no.mp4" in error["message"]


def test_movies_are_written_as_sequences_from_a_chosen_number(job, tmp_path):
    command = (job / "clip.mp4", *GIVEN[1:3], "--matte", job / "matte.png")
    pattern = tmp_path / "m.%04d.png"
    assert (
        invoke(*command, "--alpha", pattern, "--start-number", "1001", "--start", "1").exit_code
        == 0
    )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["m.1002.png", "m.1003.png", "m.1004.png"]
    refused = invoke(*command, "--alpha", tmp_path / "m.mkv", "--start-number", "1001")
    assert refused.exit_code == 2
    assert "only movies are written" in refused.stderr


def test_a_second_batch_with_the_same_results_is_refused(job):
    with exclusive(job / "shots.results.jsonl", "held by the test"):
        result = invoke("batch", job / "shots.toml", "--json")
    assert result.exit_code == 2
    assert "another batch is writing these results (process " in result.stderr
    assert not list(job.glob(".*.lock"))


def test_a_lock_ends_with_its_block_and_leaves_no_file(tmp_path):
    for _ in range(2):
        with exclusive(tmp_path / "results", "busy"):
            second = exclusive(tmp_path / "results", "busy")
            with pytest.raises(OptionError, match="busy"):
                second.__enter__()
    assert list(tmp_path.iterdir()) == []


def test_the_schema_of_manifests_names_every_key_and_its_range():
    result = invoke("batch", "--schema")
    schema = json.loads(result.stdout)
    assert schema == manifest_schema()
    properties = schema["$defs"]["shot"]["properties"]
    assert set(MANIFEST_KEYS) <= set(properties)
    assert properties["smooth"]["minimum"] == 0
    assert properties["smooth"]["maximum"] == 1
    assert properties["bit_depth"]["enum"] == [8, 16]
    assert properties["clip-black"] == {"$ref": "#/$defs/shot/properties/clip_black"}
    assert "overwrite" not in properties


def test_every_field_of_the_options_is_an_option():
    fields = {*MatteOptions.__dataclass_fields__, *FinishOptions.__dataclass_fields__} - {"finish"}
    assert fields == {each.field for each in OPTIONS.values() if each.field}


def test_options_are_made_of_text_and_of_values():
    options = make_options(
        {
            "despill": "green,0.5",
            "region": "1,2,3,4",
            "fps": "23.976",
            "bit_depth": "8",
            "grow": -1.5,
            "smooth": None,
            "points": ("1,1",),
        }
    )
    assert options == MatteOptions(
        despill=Despill("green", 0.5),
        finish=FinishOptions(region=(1, 2, 3, 4), grow=-1.5),
        frame_rate=options.frame_rate,
        bit_depth=8,
    )
    assert str(options.frame_rate) == "24000/1001"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"smooth": 2.0}, "smooth 2 is not valid: give a number from 0 to 1"),
        ({"batch_size": 0}, "batch_size 0 is not valid: give a whole number of at least 1"),
        ({"bit_depth": "12"}, "bit_depth 12 is not valid: choose one of 8, 16"),
        ({"reader": "x"}, "reader 'x' is not valid: choose one of pyav, decord"),
        ({"clip_black": 0.5, "clip_white": 0.5}, "black has to be below white"),
        ({"feather": float("nan")}, "feather nan is not valid"),
    ],
)
def test_values_outside_of_their_range_are_refused(values, message):
    with pytest.raises(OptionError, match=message):
        make_options(values)


def test_the_document_of_options_is_that_of_the_table():
    document = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert options_as_markdown() in document, "run docs/make_options.py"
