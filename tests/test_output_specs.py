"""Outputs: a path, what it holds, and the format options behind it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import VideoInfo
from vidmatte.pipeline.outputs import outputs_of_objects
from vidmatte.write import (
    FORMATS,
    OutputSpec,
    create_outputs,
    formats_of,
    parse_output,
    split_format_options,
)


@pytest.mark.parametrize(
    ("text", "path", "choices"),
    [
        ("shot.mov", "shot.mov", ()),
        ("shot.mov:qtrle", "shot.mov", ("qtrle",)),
        ("out/%04d.exr:float,dwaa", "out/%04d.exr", ("float", "dwaa")),
        ("a:b.mov", "a:b.mov", ()),
        ("a:b.WEBM:fast,crf=30", "a:b.WEBM", ("fast", "crf=30")),
        (r"C:\shots\a.mov", r"C:\shots\a.mov", ()),
        (r"C:\shots.mov:\a.mov", r"C:\shots.mov:\a.mov", ()),
        ("shots.mov:/a.mov", "shots.mov:/a.mov", ()),
        ("noon 12:30", "noon 12:30", ()),
    ],
)
def test_format_options_follow_a_known_extension(text, path, choices):
    assert split_format_options(text) == (path, choices)
    assert split_format_options(Path(text))[1] == choices


def test_a_target_says_how_it_was_asked_for():
    for text in ("shot.mov", "shot.mov:qtrle", "out/%04d.exr:float,dwaa"):
        assert parse_output(text, alpha_only=False).argument == text
        assert str(parse_output(text, alpha_only=False)) == text.partition(":")[0]


def test_every_format_is_chosen_by_its_name():
    for form in FORMATS:
        path = f"out{'' if form.is_movie else '%d'}{form.extension}"
        chosen = parse_output(f"{path}:{form.name}", alpha_only=form.alpha_only).format
        assert chosen == form
        names = [other.name for other in formats_of(form.extension, alpha_only=form.alpha_only)]
        assert names.count(form.name) == 1
        assert not set(names) & set(form.presets)


def test_the_usual_format_keeps_alpha():
    for form in FORMATS:
        usual = next(
            (
                entry
                for entry in formats_of(form.extension, alpha_only=form.alpha_only)
                if not entry.over_black
            ),
            None,
        )
        path = f"out{'' if form.is_movie else '%d'}{form.extension.upper()}"
        if usual is None:
            with pytest.raises(OptionError, match=f"has no alpha.*{form.name}"):
                parse_output(path, alpha_only=form.alpha_only)
        else:
            assert parse_output(path, alpha_only=form.alpha_only).format == usual


def test_words_and_numbers_become_options_of_the_encoder():
    usual = parse_output("a.webm", alpha_only=False).format.options
    chosen = parse_output("a.webm:fast,crf=30", alpha_only=False).format.options
    assert {key for key in chosen if chosen[key] != usual.get(key)} == {
        "crf",
        "deadline",
        "cpu-used",
    }
    assert (chosen["crf"], chosen["deadline"]) == ("30", "realtime")
    assert parse_output("%d.exr:dwab,float", alpha_only=True).format.options == {
        "pixels": "float",
        "compression": "dwab",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.mov:prores",
            r"a\.mov:prores: .mov has no format option 'prores'; "
            r"choose from prores-4444 "
            r"\(ProRes 4444, .*\), prores-4444-xq \(.*\), png \(.*\), qtrle \(.*\), "
            r"on-black \(.*\)$",
        ),
        ("a.mov:qtrle,png", "asks for png and qtrle; choose one"),
        ("a.mov:qtrle,fast", ".mov has no format option 'fast'"),
        ("a.mov:", ".mov has no format option ''"),
        ("a.webm:crf=3,crf=4", "crf=3 and crf=4 exclude each other"),
        (
            "a.webm:crf=64",
            ".webm has no format option 'crf=64'; choose from fast, lossless, crf=0 to crf=63",
        ),
        ("a.webm:crf=18,lossless", "crf=18 and lossless exclude each other"),
        ("a.webm:crf=-1", ".webm has no format option 'crf=-1'"),
        ("a.webm:crf", ".webm has no format option 'crf'"),
        ("%d.exr:zip,piz", "zip and piz exclude each other"),
        (
            "%d.exr:zipp",
            "choose from half, float, none, rle, zips, zip, piz, .*premultiplied, straight",
        ),
        ("%d.png:8", "it has none at all"),
    ],
)
def test_unknown_format_options_are_refused(text, message):
    with pytest.raises(OptionError, match=message):
        parse_output(text, alpha_only=False)


def test_format_options_go_with_every_object():
    targets = outputs_of_objects("{object}.mov:qtrle", ["cat", "dog"], alpha_only=False)
    assert [target.argument for target in targets] == ["cat.mov:qtrle", "dog.mov:qtrle"]
    (layers,) = outputs_of_objects("%d.exr:float", ["cat", "dog"], alpha_only=True)
    assert (layers.layers, layers.format_options) == (("cat", "dog"), ("float",))


def info(width=64, height=48, **changes):

    return VideoInfo("clip.mp4", width, height, Fraction(24), Fraction(1, 24), **changes)


def test_what_a_format_cannot_hold_is_refused_before_work(tmp_path):

    with pytest.raises(
        WriteError, match=r"DNxHR 444.* begins at 256x120 pixels, and the frames have 64x48"
    ):
        create_outputs([parse_output(tmp_path / "a.mxf", alpha_only=True)], like=info())
    like = VideoInfo("clip.mp4", 320, 180, Fraction(12), Fraction(1, 12))
    with pytest.raises(
        WriteError,
        match=r"\.mxf knows the frame rates of television only, and the source has 12\.000",
    ):
        create_outputs([parse_output(tmp_path / "a.mxf", alpha_only=True)], like=like)


def test_more_frames_than_avif_can_hold_are_refused_before_work(tmp_path):
    pytest.importorskip("PIL")
    like = info(1920, 1080, frames_in_header=130)
    with pytest.raises(
        WriteError, match=r"129 frames of 1920x1080 at most, and there are 130 or more; cut with"
    ):
        create_outputs([tmp_path / "a.avif"], like=like)

    create_outputs([tmp_path / "a.avif"], like=like, start=Fraction(1))


def test_missing_pillow_is_named_before_work(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"AVIF output needs .*vidmatte\[avif\]"):
        create_outputs([tmp_path / "a.avif"], like=info())


def test_a_path_with_choices_is_a_target_as_well(tmp_path):
    outputs = create_outputs(
        [f"{tmp_path}/a.mov:png", OutputSpec(tmp_path / "b.mov", format_options=("qtrle",))],
        like=info(),
    )
    assert [writer.format.codec for writer in outputs._writers] == ["png", "qtrle"]
