"""Names of numbered frames, in all notations that film tools use."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vidmatte.errors import OptionError, ReadError
from vidmatte.media.patterns import (
    is_pattern,
    matching_names,
    parse_pattern,
    stem_of,
    trailing_number,
)
from vidmatte.read import open_video
from vidmatte.write import parse_output


@pytest.mark.parametrize(
    ("name", "frame_7"),
    [
        ("shot.%04d.png", "shot.0007.png"),
        ("shot.%4d.png", "shot.0007.png"),
        ("shot.%d.png", "shot.7.png"),
        ("shot.####.png", "shot.0007.png"),
        ("shot.@@@@.png", "shot.0007.png"),
        ("shot.$F4.png", "shot.0007.png"),
        ("shot.$F.png", "shot.7.png"),
        ("shot_#.png", "shot_7.png"),
        ("%06d", "000007"),
        # Plain text beside the place:
        ("take#2.%04d.png", "take#2.0007.png"),
        ("take#2.####.png", "take#2.0007.png"),
        ("me@home.%d.png", "me@home.7.png"),
        ("100%.####.png", "100%.0007.png"),
    ],
)
def test_every_notation_names_and_finds_its_frames(name, frame_7):
    pattern = parse_pattern(Path("folder") / name)

    assert pattern.name_of(7) == frame_7
    assert pattern.number_of(frame_7) == 7
    assert matching_names(name).fullmatch(frame_7)
    assert is_pattern(name)


@pytest.mark.parametrize(
    "name", ["take#2.mov", "icon@2x.png", "shot.mov", "a%b.png", "$FOO.png", "$"]
)
def test_plain_names_are_no_patterns(name):
    assert parse_pattern(name) is None
    assert not is_pattern(name)
    assert matching_names(name).fullmatch(name)
    assert stem_of(name) == Path(name).stem


def test_a_file_that_has_the_name_of_a_pattern_is_itself(tmp_path):
    (tmp_path / "shot_####.png").touch()

    assert not is_pattern(tmp_path / "shot_####.png")
    assert stem_of(tmp_path / "shot_####.png") == "shot_####"


@pytest.mark.parametrize("name", ["%04d_%04d.png", "##_##.png", "$F_$F4.png", "##_%d.png"])
def test_two_places_are_refused(name):
    with pytest.raises(OptionError, match="more than one place for the frame number"):
        parse_pattern(name)


def test_numbers_need_at_least_the_digits_of_the_pattern():
    pattern = parse_pattern("%04d.png")

    assert pattern.number_of("10000.png") == 10000
    assert pattern.number_of("001.png") is None
    assert pattern.number_of("x0001.png") is None
    assert pattern.number_of("-001.png") == -1


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("shot-0001.png", 1),
        ("shot.-001.png", -1),
        ("-5.png", -5),
        ("shot_0012", 12),
        ("a.png", None),
    ],
)
def test_a_dash_behind_a_name_separates_and_behind_a_dot_it_is_a_sign(name, number):
    assert trailing_number(name) == number


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("clip.mp4", "clip"),
        ("shots/plate.####.exr", "plate"),
        ("shots/plate_%04d_v2.exr", "plate_v2"),
        ("shots/%06d.png", "shots"),
        ("shots/$F4.exr", "shots"),
        ("take#2.mov", "take#2"),
        ("take#2.####.png", "take#2"),
    ],
)
def test_the_stem_of_a_clip_has_no_place_for_numbers(source, stem):
    assert stem_of(source) == stem


def write_frames(folder, names):
    for name in names:
        cv2.imwrite(str(folder / name), np.full((8, 12, 3), 99, np.uint8))


@pytest.mark.parametrize("notation", ["%04d", "####", "@@@@", "$F4"])
def test_sequences_are_read_by_every_notation(tmp_path, notation):
    write_frames(tmp_path, ["take#2.0000.png", "take#2.0001.png"])

    with open_video(tmp_path / f"take#2.{notation}.png") as video:
        assert video.count_frames() == 2


@pytest.mark.parametrize("source", [".", "a.%04d.png"])
def test_negative_frame_numbers_are_refused_and_named(tmp_path, source):
    write_frames(tmp_path, ["a.-001.png", "a.0000.png", "a.0001.png"])

    with pytest.raises(ReadError, match=r"a\.-001\.png: has the frame number -1, .* renumber"):
        open_video(tmp_path / source)


def test_a_folder_whose_numbers_follow_a_dash_is_a_sequence(tmp_path):
    write_frames(tmp_path, ["a-0001.png", "a-0002.png"])

    with open_video(tmp_path) as video:
        assert video.count_frames() == 2


@pytest.mark.parametrize("notation", ["%04d", "####", "@@@@", "$F4"])
def test_outputs_are_named_by_every_notation(notation):
    spec = parse_output(f"out/take#2.{notation}.png", alpha_only=True)

    assert spec.image_name(number=12, name="") == "take#2.0012.png"
    assert spec.file_names.fullmatch("take#2.0012.png")
    assert not spec.file_names.fullmatch("take#2.x.png")
