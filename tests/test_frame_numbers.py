"""Frames of sequences are called by the numbers of their files, from the options to the report."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import numbered_picture, read_number, write_movie
from picker import QUICK, on_disc, opened, write_disc

import vidmatte
from vidmatte.batch.manifest import load_manifest
from vidmatte.cli import cli
from vidmatte.errors import OptionError, PromptError, ReadError
from vidmatte.media.patterns import matching_names, stem_of
from vidmatte.option_table import manifest_schema
from vidmatte.pipeline.request import Request, open_shot
from vidmatte.prompts.files import load_prompts
from vidmatte.read import open_video, parse_position
from vidmatte.web.session import PickerConfig, Session

FIRST, COUNT = 1001, 6
POINTS = ((10, 20, 1),)


def write_sequence(folder, first=FIRST, count=COUNT, size=(64, 32)):
    """Frames that show their index as a number; returns their pattern."""
    folder.mkdir(exist_ok=True)
    for index in range(count):
        picture = numbered_picture(index, *size)[..., ::-1]
        cv2.imwrite(str(folder / f"shot.{first + index:04d}.png"), picture)
    return folder / "shot.####.png"


@pytest.fixture
def shot(tmp_path):
    return write_sequence(tmp_path / "plates")


def reference_of(source, frame, reference=None):
    """The index, and the number that is drawn in it, of the frame that a prompt marks."""
    prompt = vidmatte.Prompt(frame=frame, points=POINTS)
    with open_shot(Request.of(source, prompt, reference=reference)) as opened_shot:
        (found,) = opened_shot.references[""]
        return found.frame, read_number(found.rgb[0].numpy())


@pytest.mark.parametrize(
    ("frame", "index"),
    [
        (1003, 2),
        ("1003", 2),
        ("index:2", 2),
        (None, 0),
        ("0.125s", 3),
        ("00:00:00:04", 4),
        ("00:00:00.125", 3),
    ],
)
def test_prompts_mark_frames_of_sequences_by_number_index_or_time(shot, frame, index):
    assert reference_of(shot, frame) == (index, index)
    assert reference_of(shot.parent, frame) == (index, index)


def test_prompts_mark_frames_of_movies_by_index_or_time(tmp_path):
    clip = write_movie(tmp_path / "clip.mp4", frames=6)
    for frame, index in ((4, 4), ("index:4", 4), ("0.16s", 4), ("00:00:00:03", 3), (None, 0)):
        assert reference_of(clip, frame) == (index, index)


def test_frames_of_another_clip_are_its_own_numbers(shot, tmp_path):
    clip = write_movie(tmp_path / "clip.mp4", frames=3, size=(64, 32))
    assert reference_of(clip, 1004, reference=shot) == (None, 3)


@pytest.mark.parametrize("frame", [0, 5, 1000, 1007, "index:6"])
def test_a_number_that_no_file_has_is_refused_with_those_there_are(shot, frame):
    with pytest.raises(OptionError, match=r"numbered 1001 to 1006.*index:0 to index:5"):
        reference_of(shot, frame)


def test_one_frame_marked_under_two_names_is_noticed(shot):
    prompts = [vidmatte.Prompt(frame=frame, points=POINTS) for frame in (1002, "index:1")]
    with (
        pytest.raises(OptionError, match="frame 1002 is marked twice"),
        open_shot(Request.of(shot, prompts)),
    ):
        pass


def test_a_number_in_the_name_of_a_single_image_is_no_frame_number(tmp_path):
    pattern = write_sequence(tmp_path / "one", first=2024, count=1)
    assert reference_of(pattern.parent / "shot.2024.png", 0) == (0, 0)
    assert reference_of(pattern, 2024) == (0, 0)


def run(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_options_summary_report_and_outputs_use_one_number(shot, tmp_path):
    """Frame 1003 is marked, 1002 to 1005 are matted; everything says so."""
    result = run(
        shot,
        *("--ref-frame", 1003, "--box", "8,4,40,28", "--start", 1002, "--end", 1005),
        *("--model", "compact", "--working-size", 128, "--adapt-steps", 0, "--device", "cpu"),
        *("--alpha", tmp_path / "out.####.png", "--report", tmp_path / "report", "--json"),
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["first_frame"], summary["frames"]) == (1002, 4)
    assert summary["reference_frames"] == [1003]
    assert set(summary["confidence"]["suggested_reference_frames"]) <= {1002, 1003, 1004, 1005}
    names = sorted(path.name for path in tmp_path.glob("out.*"))
    assert names == [f"out.{number}.png" for number in range(1002, 1006)]
    table = (tmp_path / "report" / "confidence.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["frame"] for row in rows] == ["1002", "1003", "1004", "1005"]
    assert [row["is_reference"] for row in rows] == ["0", "1", "0", "0"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "4, the first is 1002" in page
    assert "reference 1003" in page


def test_segments_and_one_stream_give_the_same_report(shot, tmp_path):
    tables = []
    for name, length in (("one", 100), ("several", 2)):
        result = run(
            shot,
            *("--ref-frame", 1003, "--box", "8,4,40,28", "--start", 1002, "--adapt-steps", 0),
            *("--working-size", 128, "--device", "cpu", "--segment-frames", length),
            *("--alpha", tmp_path / f"{name}.mkv", "--report", tmp_path / name),
        )
        assert result.exit_code == 0, result.output
        tables.append((tmp_path / name / "confidence.csv").read_text())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--start", "5"), "numbered 1001 to 1006"),
        (("--start", "1009"), "6 frames, numbered 1001 to 1006"),
        (("--start", "1004", "--end", "1002"), "lies before in point 1004"),
        (("--end", "1000"), "numbered 1001 to 1006"),
        (("--ref-frame", "eleven"), "position 'eleven' is not valid"),
    ],
)
def test_positions_that_do_not_fit_are_usage_errors(shot, options, message):
    result = run(shot, "--points", "10,20", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_an_out_point_behind_the_end_is_noted_by_number(shot, tmp_path):
    np_mask = np.full((32, 64), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "matte.png"), np_mask)
    arguments = ("--model", "none", "--matte", tmp_path / "matte.png", "--end", "2000")
    result = run(shot, *arguments, "--alpha", tmp_path / "a.mkv")
    assert result.exit_code == 0, result.output
    assert "out point 2000 lies behind the last frame, 1006" in " ".join(result.stderr.split())


def test_positions_of_manifests_are_numbers_or_text(shot, tmp_path):
    (tmp_path / "shots.toml").write_text(
        f'[[shots]]\ninput = "{shot}"\npoints = "10,20"\nref_frame = 1003\nstart = 1002\n'
        'alpha = "a.mkv"\n'
        f'[[shots]]\nname = "b"\ninput = "{shot}"\npoints = "10,20"\nref_frame = "index:2"\n'
        'alpha = "b.mkv"\n'
    )
    for planned in load_manifest(tmp_path / "shots.toml"):
        with open_shot(planned.request) as opened_shot:
            assert opened_shot.reference_frames == (1003,)
    properties = manifest_schema()["$defs"]["shot"]["properties"]
    for key in ("ref_frame", "start", "end"):
        assert properties[key]["type"] == ["integer", "string"]


def prompt_file(path, version, frame):
    prompts = [{"frame": frame, "points": [[10, 20]]}]
    document = {"version": version, "objects": [{"name": "a", "prompts": prompts}]}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("version", "frame", "index"), [(1, 2, 2), (2, 1003, 2), (2, "index:2", 2), (2, "0.125s", 3)]
)
def test_prompt_files_hold_numbers_and_old_ones_indices(shot, tmp_path, version, frame, index):
    objects = load_prompts(prompt_file(tmp_path / "p.json", version, frame))
    with open_shot(Request.of(shot, objects)) as opened_shot:
        assert opened_shot.references["a"][0].frame == index


def as_sequence(tmp_path) -> Path:
    """The moving disc as a sequence from 1001 on."""
    folder = tmp_path / "plates"
    folder.mkdir()
    with open_video(write_disc(tmp_path / "disc.mp4", frames=8)) as video:
        for frame in video.decode():
            picture = np.round(frame.rgb[::-1].transpose(1, 2, 0).clip(0, 1) * 255)
            cv2.imwrite(str(folder / f"disc.{FIRST + frame.index}.png"), picture.astype(np.uint8))
    return folder / "disc.%04d.png"


def test_the_picker_counts_by_the_numbers_of_the_files(tmp_path):
    source = as_sequence(tmp_path)
    with opened(source, frame="1003") as session:
        assert (session.clip()["frame"], session.clip()["first_number"]) == (2, 1001)
        session.edit(on_disc(2))
        session.edit({"op": "set_range", "start": 1, "end": 5})
        words = shlex.split(session.state()["command"])
        saved = session.store.path
    assert words[words.index("--start") + 1] == "1002"
    assert words[words.index("--end") + 1] == "1006"
    assert json.loads(saved.read_text())["objects"][0]["prompts"][0]["frame"] == 1003
    with opened(source) as session:
        assert list(session.project.objects[0].prompts) == [2]
        assert (session.project.start, session.project.end) == (1, 5)


def test_the_picker_refuses_frames_that_the_clip_does_not_have(tmp_path):
    source = as_sequence(tmp_path)
    with pytest.raises(OptionError, match="numbered 1001 to 1008"):
        Session(PickerConfig(source, frame="7", options=QUICK), folder=tmp_path)
    prompt_file(source.with_name("disc.prompts.json"), 2, 12)
    with pytest.raises(PromptError, match="it belongs to another clip"):
        Session(PickerConfig(source, options=QUICK), folder=tmp_path)


def test_a_run_of_the_picker_gives_its_first_frame_by_index(tmp_path):
    """The page counts from 0; only what it shows are numbers."""
    source = as_sequence(tmp_path)
    with opened(source, alphas=(str(tmp_path / "alpha.%04d.png"),)) as session:
        session.set_outputs({"outputs": [0]})
        session.edit(on_disc(2))
        session.edit({"op": "set_range", "start": 1, "end": 3})
        session.start_run()
        session.runs.last.wait(120)
        answer = session.state()["run"]
        assert (answer["state"], answer["first_frame"], answer["frames"]) == ("done", 1, 3)
        assert session.runs.last.progress.summary.first_frame == 1002


@pytest.mark.parametrize(
    "name", ["shot.1002-1004####.png", "shot.1002-1004%04d.png", "shot.1002-1004#.png"]
)
def test_a_range_in_the_pattern_chooses_frames(shot, name):
    with open_video(shot.with_name(name)) as video:
        frames = [read_number(frame.rgb) for frame in video.decode()]
        assert (frames, video.first_number) == ([1, 2, 3], 1002)
        assert parse_position("1003", video) == 1
    assert stem_of(shot.with_name(name)) == "shot"
    assert matching_names(name).fullmatch("shot.1003.png")


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ("1000-1004", r"shot\.1000\.png is missing; there are 1001 to 1006"),
        ("1004-1010", r"shot\.1010\.png is missing"),
        ("1004-1002", "the range 1004-1002 is empty"),
    ],
)
def test_a_range_that_is_not_there_is_refused(shot, span, message):
    with pytest.raises(ReadError, match=message):
        open_video(shot.with_name(f"shot.{span}####.png"))


def test_a_range_with_a_gap_names_the_missing_frames(shot):
    shot.with_name("shot.1003.png").unlink()
    with pytest.raises(ReadError, match="1 are missing: 1003"):
        open_video(shot.with_name("shot.1002-1005####.png"))
