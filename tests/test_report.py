"""The report: what it says is what happened, it needs nothing but itself, and it is there whole or
not at all.
"""

import base64
import csv
import dataclasses
import html
import os
import re
import shlex
import shutil
import tempfile
import tracemalloc
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import av
import click
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from clips import write_movie
from jinja2 import UndefinedError
from users import as_ordinary_user

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.options import FinishOptions
from vidmatte.read.sequence import ImageSet
from vidmatte.report import PAGE, Invocation, create_report
from vidmatte.report.curve import confidence_curve, extremes, ticks
from vidmatte.report.html import render
from vidmatte.report.sheets import SUGGESTED, contact_sheet
from vidmatte.report.summary import Summary
from vidmatte.report.thumbnails import SPREAD, Thumbnails
from vidmatte.write import parse_output

FILES = {"report.html", "contact_sheet.jpg", "confidence.csv"}
TIMES = [0, 3, 5, 9, 14, 15, 18, 22, 23, 27, 31, 36]
DIP = 11
"""The last frame of the clip, and the only one that the model below is not sure of."""


class HalfModel:
    """Says that the left half of every image is the object."""

    name, device, precision = "half", torch.device("cpu"), torch.float32

    def with_reference(self, references):
        return self

    def tracker(self):
        return None

    def __call__(self, batch):
        alpha = torch.zeros_like(batch.rgb[:, :1])
        alpha[..., : alpha.shape[3] // 2] = 1
        return MatteBatch(
            batch, alpha, tuple(0.25 if frame == DIP else 0.9 for frame in batch.frames)
        )


class ExplainingModel(HalfModel):
    """Was guided by the upper half of the image, and by all of it."""

    def guidance(self, batch):
        upper = torch.zeros(len(batch), 1, 8, 8)
        upper[:, :, :4] = 1
        return {"inter_similarity": upper, "intra_similarity": torch.ones(len(batch), 1, 4, 4)}


@pytest.fixture
def half(monkeypatch):
    monkeypatch.setattr("vidmatte.pipeline.models.load_model", lambda *args, **kwargs: HalfModel())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """12 frames at a variable rate."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_movie(path, frames=12, times=TIMES, time_base=Fraction(1, 100), options={"g": "4"})


def run(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments), "--quiet"])


def table(folder):
    with open(folder / "confidence.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mattes(confidence, *, first=0, size=(9, 16), names=()):
    for frame, value in enumerate(confidence, first):
        source = FrameBatch(
            torch.full((1, 3, *size), 0.5), (frame,), (frame,), (1,), names[frame : frame + 1]
        )
        yield MatteBatch(source, torch.ones(1, 1, *size), (value,))


def summary(confidence, *, first=0, references=(), is_set=False):
    confidence = tuple(confidence)
    return Summary(
        "a.mp4",
        len(confidence),
        1.0,
        "m",
        "cpu",
        "float32",
        (),
        confidence,
        first,
        references,
        (),
        is_set,
    )


def invocation(**given):
    start = {
        "sources": ["a.mp4"],
        "images": False,
        "reference": None,
        "objects": {"": [vidmatte.Prompt(points=((9, 9, 1),))]},
        "specs": [parse_output("o.mov", alpha_only=False)],
        "report": Path("rep"),
        "options": {},
    }
    return Invocation(**(start | given))


def test_the_table_says_what_the_summary_says_at_the_times_of_the_source(half, clip, tmp_path):
    result = run(
        clip,
        "--ref-frame",
        "5",
        "--points",
        "80,20",
        "--alpha",
        tmp_path / "a.mkv",
        "--start",
        "3",
        "--report",
        tmp_path / "rep",
        "--json",
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "rep").iterdir()} == FILES
    rows = table(tmp_path / "rep")
    assert [int(row["frame"]) for row in rows] == list(range(3, 12))
    assert [float(row["seconds"]) for row in rows] == [time / 100 for time in TIMES[3:]]
    assert [float(row["confidence"]) for row in rows] == [0.9] * 8 + [0.25]
    assert [row["frame"] for row in rows if row["is_reference"] == "1"] == ["5"]
    # The unsure frame is too close to the reference to be suggested.
    assert not any(row["is_suggested"] == "1" for row in rows)
    assert f'"report": "{tmp_path / "rep" / "report.html"}"' in result.stdout


class Requests(HTMLParser):
    """Collects what a browser would load, and checks that tags close."""

    def __init__(self):
        super().__init__()
        self.open, self.pictures, self.attributes, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself_and_shows_the_suggested_frame(half, clip, tmp_path):
    odd = shutil.copy(clip, tmp_path / "a<b>&'c.mp4")
    run(odd, "--points", "80,20", "--alpha", tmp_path / "a.mkv", "--report", tmp_path / "rep")
    page = (tmp_path / "rep" / "report.html").read_text(encoding="utf-8")
    found = Requests()
    found.feed(page)
    assert found.open == []
    assert found.tags.isdisjoint({"script", "link", "iframe", "object", "b"})
    assert set(found.attributes).isdisjoint({"href", "srcset", "style", "onload"})
    assert "url(" not in page
    assert "@import" not in page
    assert "a&lt;b&gt;&amp;&#39;c.mp4" in page
    pictures = [
        cv2.imdecode(np.frombuffer(base64.b64decode(src.partition("base64,")[2]), np.uint8), 1)
        for src in found.pictures
    ]
    assert all(src.startswith("data:image/jpeg;base64,") for src in found.pictures)
    assert len(pictures) == 2  # the suggested frame, the sheet
    sheet = cv2.imread(str(tmp_path / "rep" / "contact_sheet.jpg"))
    assert np.array_equal(pictures[1], sheet)
    assert pictures[0].shape == (96, 3 * 160 + 8, 3)
    assert f"Frame {DIP}, confidence 0.25" in page


def test_the_printed_command_adds_the_reference(half, clip, tmp_path):
    first = [
        clip,
        "--points",
        "80,20 3,3,0",
        "--alpha",
        tmp_path / "a b.mkv",
        "--report",
        tmp_path / "rep",
    ]
    assert run(*first, "--start", "1", "--bit-depth", "16").exit_code == 0
    page = (tmp_path / "rep" / "report.html").read_text(encoding="utf-8")
    command = html.unescape(page.partition("<pre>")[2].partition("</pre>")[0])
    words = shlex.split(command.replace("X,Y X,Y,0", "40,20 159,95,0"))
    assert words[0] == "vidmatte"
    result = run(*words[1:])
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "rep")
    assert rows[0]["frame"] == "1"
    # Frame 0 is marked too, before the in point.
    assert [row["frame"] for row in rows if row["is_reference"] == "1"] == [str(DIP)]
    assert "--ref-frame index:0" in command


def test_commands_for_every_kind_of_mark():
    box = vidmatte.Prompt(frame=3, box=(1, 2, 30.5, 40))
    masks = [vidmatte.Prompt(frame=n, mask=Path(f"m {n}.png")) for n in (3, 8)]
    mixed = [vidmatte.Prompt(points=((1, 2, 1),)), vidmatte.Prompt(frame=5, mask=Path("m.png"))]
    stroke = vidmatte.Prompt(strokes=(vidmatte.Stroke(((1, 2),), 3),))
    tail = "-o o.mov --report rep --overwrite"

    def command(prompts, **given):
        return invocation(objects={"": prompts}, **given).with_reference(20)

    assert command([box]) == (
        f"vidmatte a.mp4 --ref-frame 3 --box 1,2,30.5,40 --ref-frame 20 --box X0,Y0,X1,Y1 {tail}"
    )
    assert command(masks) == (
        "vidmatte a.mp4 --ref-frame 3 --mask 'm 3.png' --ref-frame 8 --mask 'm 8.png' "
        f"--ref-frame 20 --mask MASK_20.png {tail}"
    )
    for prompts in (mixed, [stroke]):
        assert command(prompts) == f"vidmatte a.mp4 --prompts FILE.json {tail}"
        assert (
            invocation(objects={"": prompts}).in_prompt_file(20)
            == '{"frame": 20, "points": [[X, Y, 1]]}'
        )
    # An object has its name from a file.
    assert invocation(objects={"dog": [box]}).in_prompt_file(20) is not None
    assert invocation(objects={"": [box]}).in_prompt_file(20) is None
    elsewhere = command(
        [vidmatte.Prompt(points=((9, 9, 1),))], reference="hero.jpg", images=True, sources=["p/"]
    )
    assert elsewhere == f"vidmatte p/ --images --ref-frame 20 --points 'X,Y X,Y,0' {tail}"
    options = {
        "smooth": 0.5,
        "frame_rate": Fraction(24000, 1001),
        "allow_truncated": True,
        "bit_depth": 8,
    }
    chosen = "--smooth 0.5 --fps 24000/1001 --allow-truncated --bit-depth 8"
    assert chosen in invocation(options=options).with_reference(20)


def test_choices_of_an_output_are_repeated():
    targets = [
        parse_output("o.mov:prores-4444-xq", alpha_only=False),
        parse_output("%d.exr:float,dwaa", alpha_only=True),
    ]
    command = invocation(specs=targets).with_reference(20)
    assert "-o o.mov:prores-4444-xq --alpha %d.exr:float,dwaa" in command


def test_every_choice_has_an_option_of_the_command_line():
    both = (*dataclasses.fields(vidmatte.MatteOptions), *dataclasses.fields(FinishOptions))
    names = [field.name for field in both if field.name not in ("overwrite", "finish")]
    words = shlex.split(invocation(options=dict.fromkeys(names, "x")).with_reference(20))
    known = {
        name
        for parameter in cli.get_command(click.Context(cli), "matte").params
        for name in parameter.opts
    }
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("frames", [1, 5, 24, 25, 47, 48, 49, 1000])
def test_thumbnails_are_spread_evenly_whatever_the_length(frames):
    thumbnails = Thumbnails(pixel_aspect=Fraction(1), references=(), apart=10)
    for batch in mattes([0.9] * frames, first=7):
        thumbnails.add(batch)
    shown = [thumbnail.frame - 7 for thumbnail in thumbnails.sheet(())]
    assert len(shown) == min(SPREAD, frames)
    assert shown[0] == 0
    gaps = np.diff([*shown, frames])
    assert gaps.max() <= 2 * frames / len(shown)
    assert gaps[:-1].min(initial=frames) * 2 >= gaps[:-1].max(initial=0)


@pytest.mark.parametrize("seed", range(20))
def test_every_suggested_frame_has_its_thumbnail_though_few_are_kept(seed):
    rng = np.random.default_rng(seed)
    # Long slides down and up make each frame the least sure one yet, or none.
    steps = np.cumsum(rng.normal(0, 0.02, 400)) if seed % 2 else rng.normal(0, 0.2, 400)
    confidence = np.clip(0.6 + steps, 0, 1).round(2).tolist()
    references = tuple(int(frame) for frame in rng.integers(0, 400, seed % 4))
    apart = 1 if seed % 5 == 0 else 10
    suggested = summary(
        confidence, references=references, is_set=apart == 1
    ).suggested_reference_frames
    thumbnails = Thumbnails(pixel_aspect=Fraction(1), references=references, apart=apart)
    for batch in mattes(confidence):
        thumbnails.add(batch)
        assert len(thumbnails._unsure) <= 3 * 19
    assert len(suggested) == 3
    shown = {thumbnail.frame: thumbnail.confidence for thumbnail in thumbnails.sheet(suggested)}
    assert [shown[frame] for frame in suggested] == [confidence[frame] for frame in suggested]


def test_memory_does_not_grow_with_the_clip():
    peaks = []
    for frames in (150, 600):
        thumbnails = Thumbnails(pixel_aspect=Fraction(1), references=(), apart=10)
        tracemalloc.start()
        for batch in mattes((0.5 + 0.2 * np.cos(np.arange(frames))).tolist(), size=(60, 90)):
            thumbnails.add(batch)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_images_of_a_set_are_suggested_next_to_each_other_and_to_the_reference():
    confidence = [0.9, 0.5, 0.4, 0.3, 0.9]
    assert summary(confidence, references=(0,)).suggested_reference_frames == ()
    assert summary(confidence, references=(0,), is_set=True).suggested_reference_frames == (1, 2, 3)


def test_thumbnails_show_the_colour_that_is_written_over_a_plain_background():
    rgb = torch.zeros(1, 3, 360, 720)
    rgb[:, 0] = 1  # a red picture, whose object was found to be blue
    blue = torch.zeros_like(rgb)
    blue[:, 2] = 1
    alpha = torch.zeros(1, 1, 360, 720)
    alpha[..., :360] = 1
    alpha[..., :120, :360] = 0.5
    thumbnails = Thumbnails(pixel_aspect=Fraction(1, 2), references=(), apart=10)
    thumbnails.add(MatteBatch(FrameBatch(rgb, (4,), (4,), (1,)), alpha, (0.9,), blue))
    (shown,) = thumbnails.sheet(())
    # 720 x 360 with pixels half as wide as high is a square: 180 x 180.
    assert shown.source.shape == shown.alpha.shape == shown.composite.shape == (180, 180, 3)
    assert (shown.source == (0, 0, 255)).all()
    assert (shown.alpha[62:, :88] == 255).all()
    assert (shown.alpha[:58, :88] == 128).all()
    assert (shown.composite[62:, :88] == (255, 0, 0)).all()
    behind = shown.composite[:, 96:].astype(int)  # the checkerboard repeats after 16 pixels
    assert behind.min() > 60
    assert behind.max() < 190
    assert np.abs(shown.composite[:58, :84] - (behind[:58] / 2 + (127.5, 0, 0))).max() <= 1


def test_the_sheet_holds_every_picture_and_names_the_suggested_frames():
    thumbnails = Thumbnails(pixel_aspect=Fraction(1), references=(), apart=10)
    dip = next(frame for frame in range(31) if frame not in np.linspace(0, 30, SPREAD).round())
    for batch in mattes([0.9 if frame != dip else 0.1 for frame in range(31)], size=(90, 160)):
        thumbnails.add(batch)
    shown = thumbnails.sheet((dip,))
    sheet = contact_sheet(shown, references=(0,), suggested=(dip,))
    assert len(shown) == SPREAD + 1
    # The source and the composite are gray, the alpha is white.
    assert (sheet == 128).all(axis=2).sum() == 2 * len(shown) * 90 * 160
    assert (sheet == 255).all(axis=2).sum() == len(shown) * 90 * 160
    assert (np.abs(sheet.astype(int) - SUGGESTED).max(axis=2) < 30).any()
    assert not (np.abs(contact_sheet(shown).astype(int) - SUGGESTED).max(axis=2) < 30).any()


def curve(*args, **kwargs):
    root = ElementTree.fromstring(confidence_curve(summary(*args, **kwargs)))
    points = [
        tuple(map(float, point.split(","))) for point in root.find("polyline").get("points").split()
    ]
    return root, points


def test_the_curve_is_drawn_to_scale():
    confidence = [1.0, 0.0, 0.5] + [0.9] * 17 + [0.2, 0.9]
    root, points = curve(confidence, first=100, references=(101, 3))
    x, y = np.array(points).T
    assert np.allclose((x - x[0]) / (x[-1] - x[0]), np.arange(22) / 21, atol=1e-3)
    assert np.allclose((y[1] - y) / (y[1] - y[0]), confidence, atol=1e-2)
    assert y[0] < y[1]  # up is sure
    labels = {text.text: (float(text.get("x")), float(text.get("y"))) for text in root.iter("text")}
    assert labels["110"][0] == pytest.approx(x[10], abs=0.1)
    assert labels["0"][1] - labels["1"][1] == pytest.approx(y[1] - y[0], abs=0.1)
    (reference,) = [line for line in root.iter("line") if line.get("class") == "reference"]
    assert float(reference.get("x1")) == pytest.approx(x[1], abs=0.1)
    (dot,) = [circle for circle in root.iter("circle") if circle.get("class") == "suggested"]
    assert (float(dot.get("cx")), float(dot.get("cy"))) == pytest.approx((x[20], y[20]), abs=0.1)


def test_a_single_frame_has_a_curve():
    _, points = curve([0.5])
    assert len(points) == 1


def test_the_curve_of_a_long_clip_keeps_its_dips():
    confidence = [0.9] * 100_000
    confidence[54_321] = 0.05
    confidence[54_322] = 1.0
    points = extremes(confidence, 10, 944)
    assert len(points) <= 2 * 944
    assert {(54_331, 0.05), (54_332, 1.0)} <= set(points)
    assert points == sorted(points)


@pytest.mark.parametrize(
    "ends", [(0, 0), (0, 11), (3, 49), (0, 499), (999, 1234), (0, 99_999), (86_000, 1_000_000)]
)
def test_ticks_are_round_and_few(ends):
    found = ticks(*ends)
    steps = set(np.diff(found))
    assert 1 <= len(found) <= 13
    assert len(steps) <= 1
    assert all(str(int(step)).rstrip("0") in ("1", "2", "5") for step in steps)
    assert ends[0] <= found[0] <= found[-1] <= ends[1]


def refuse(arguments, message, *, code=1, folder):
    """Run, and check that it fails with one line and changes nothing in `folder`."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_reports_that_cannot_be_written_are_refused(half, clip, tmp_path):
    marked = [clip, "--points", "80,20", "--alpha", tmp_path / "a.mkv"]
    (tmp_path / "file").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "confidence.csv").write_text("precious")
    refuse([*marked, "--report", tmp_path / "file"], "is not a folder", folder=tmp_path)
    refuse([*marked, "--report", tmp_path / "file" / "rep"], "is not a folder", folder=tmp_path)
    refuse(
        [*marked, "--report", tmp_path / "old"],
        "confidence.csv exists already; use --overwrite",
        folder=tmp_path,
    )
    refuse(
        [*marked, "--report", tmp_path / "a.mkv"],
        "also an input or an output",
        code=2,
        folder=tmp_path,
    )


def test_a_report_does_not_go_among_the_images_it_is_about(half, tmp_path):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((20, 30, 3), np.uint8))
    arguments = [
        tmp_path,
        "--images",
        "--points",
        "9,9",
        "--alpha",
        tmp_path / "{name}_a.png",
        "--report",
        tmp_path,
    ]
    refuse(arguments, "choose another folder for the report", code=2, folder=tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="rights of folders work otherwise there")
def test_a_folder_without_rights_is_refused(half):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name)
        (folder / "rep").mkdir(mode=0o555)
        with as_ordinary_user(), pytest.raises(WriteError, match="is not writable; choose another"):
            create_report(invocation(report=folder / "rep"), like=info(), references=(), inputs=())


def info():
    return vidmatte.VideoInfo("a.mp4", 16, 9, Fraction(25), Fraction(1, 25))


def test_overwriting_replaces_the_whole_report_and_nothing_else(half, clip, tmp_path):
    folder = tmp_path / "rep"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for name in (*FILES, "guidance.jpg"):
        (folder / name).write_text("old")
    marked = [clip, "--points", "80,20", "--alpha", tmp_path / "a.mkv", "--report", folder]
    assert run(*marked, "--overwrite").exit_code == 0
    assert {path.name for path in folder.iterdir()} == {*FILES, "notes.txt"}
    assert not any((folder / name).read_bytes() == b"old" for name in FILES)
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "rep"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failed_run_leaves_nothing(half, clip, tmp_path, is_there):
    folder = tmp_path / "rep"
    if is_there:
        folder.mkdir()

    def stop(now):
        if (now.stage, now.done) == ("matting", 6):
            assert any(".partial" in path.name for path in tmp_path.rglob("*"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vidmatte.matte(
            clip,
            vidmatte.Prompt(points=((80, 20, 1),)),
            alpha=tmp_path / "a.mkv",
            report=folder,
            progress=stop,
        )
    assert os.listdir(tmp_path) == (["rep"] if is_there else [])
    assert not is_there or os.listdir(folder) == []


def test_the_command_asks_for_the_outputs_of_all_objects_as_they_were_asked_for(
    half, clip, tmp_path
):
    marks = {name: vidmatte.Prompt(points=((x, 20, 1),)) for name, x in (("cat", 80), ("dog", 10))}
    vidmatte.matte(clip, marks, alpha=f"{tmp_path}/{{object}}.mov:png", report=tmp_path / "rep")
    assert {path.name for path in tmp_path.iterdir()} >= {"cat.mov", "dog.mov"}
    page = (tmp_path / "rep" / PAGE).read_text(encoding="utf-8")
    assert "/{object}.mov:png" in page
    assert "cat.mov" not in page


def test_outputs_and_report_are_put_in_place_together(half, clip, tmp_path):
    folder = tmp_path / "rep"
    folder.mkdir()

    def appear(now):
        if now.stage == "matting":
            (folder / "report.html").write_text("someone else's")

    with pytest.raises(WriteError, match="meanwhile"):
        vidmatte.matte(
            clip,
            vidmatte.Prompt(points=((80, 20, 1),)),
            alpha=tmp_path / "a.mkv",
            report=folder,
            progress=appear,
        )
    # What is finished is kept under other names.
    movie, _ = sorted(os.listdir(tmp_path))
    assert re.fullmatch(r"a\.finished-\w{8}\.mkv", movie)
    kept, theirs = sorted(os.listdir(folder))
    assert theirs == "report.html"
    assert (folder / "report.html").read_text() == "someone else's"
    assert sorted(os.listdir(folder / kept)) == [
        "confidence.csv",
        "contact_sheet.jpg",
        "report.html",
    ]


def test_a_set_of_images_of_any_size(half, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(13):
        cv2.imwrite(
            str(photos / f"shot-{n:02d}.png"), np.full((40 + 10 * n, 400 - 30 * n, 3), 90, np.uint8)
        )
    result = run(
        photos,
        "--images",
        "--points",
        "9,9",
        "-o",
        tmp_path / "{name}.png",
        "--report",
        tmp_path / "rep",
    )
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "rep")
    assert [row["name"] for row in rows] == [f"shot-{n:02d}" for n in range(13)]
    assert {row["seconds"] for row in rows} == {""}
    assert [row["is_suggested"] for row in rows] == ["0"] * DIP + ["1", "0"]
    assert "--images --ref-frame index:0" in (tmp_path / "rep" / "report.html").read_text(
        encoding="utf-8"
    )


def explained(model, tmp_path):
    """The report on two images, made with a model."""
    for n in range(2):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((100, 100, 3), 200, np.uint8))
    folder = tmp_path / "rep"
    with (
        ImageSet([tmp_path / "0.png", tmp_path / "1.png"]) as video,
        create_report(
            invocation(report=folder, images=True), like=video.info, references=(), inputs=()
        ) as report,
    ):
        for batch in video.batches():
            report.add(model(batch))
        ((partial, final),) = report.write(
            summary([0.9, 0.9], is_set=True), predictor=model, video=video
        )
        assert final == folder
        os.replace(partial, final)
    return folder


def test_a_model_that_explains_itself_has_its_guidance_shown(tmp_path):
    folder = explained(ExplainingModel(), tmp_path)
    sheet = cv2.imread(str(folder / "guidance.jpg")).astype(int)
    assert "Guidance" in (folder / "report.html").read_text(encoding="utf-8")
    # OpenCV's viridis: 0 is (84, 1, 68) and 1 is (36, 231, 253) in blue, green, red.
    low, high = (np.abs(sheet - color).max(axis=2) < 16 for color in ((84, 1, 68), (36, 231, 253)))
    # Two images of 100 x 100: one map is low in its lower half, high in the upper; the other high
    # everywhere.
    assert low.sum() == pytest.approx(2 * 100 * 50, rel=0.15)
    assert high.sum() == pytest.approx(2 * (100 * 50 + 100 * 100), rel=0.15)
    assert (
        np.nonzero(high.any(axis=0))[0].min()
        < np.nonzero((sheet > 240).all(axis=2).any(axis=0))[0].max()
    )


def test_guidance_is_asked_for_what_the_model_saw(tmp_path):
    """Of scene-linear light beyond 1, that is light brought into what a screen shows."""
    pytest.importorskip("OpenEXR")
    seen = []

    class Watching(ExplainingModel):
        def guidance(self, batch):
            seen.append(float(batch.rgb.max()))
            return super().guidance(batch)

    import OpenEXR

    for n in range(2):
        OpenEXR.File({}, {"RGB": np.full((100, 100, 3), 8.0, np.float32)}).write(
            str(tmp_path / f"{n}.exr")
        )
    with (
        ImageSet([tmp_path / "0.exr", tmp_path / "1.exr"]) as video,
        create_report(
            invocation(report=tmp_path / "rep", images=True),
            like=video.info,
            references=(),
            inputs=(),
        ) as report,
    ):
        model = Watching()
        for batch in video.batches():
            report.add(model(batch))
        report.write(summary([0.9, 0.9], is_set=True), predictor=model, video=video)
    assert len(seen) == 2
    assert all(0.9 < value <= 1 for value in seen)


def test_any_other_model_has_no_guidance(tmp_path):
    folder = explained(HalfModel(), tmp_path)
    assert {path.name for path in folder.iterdir()} == FILES
    assert "Guidance" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_report_that_is_the_input_is_an_option_error(tmp_path):
    with pytest.raises(OptionError, match="choose another folder"):
        create_report(invocation(report=tmp_path), like=info(), references=(), inputs=[tmp_path])


def test_values_of_pages_are_escaped_and_missing_ones_are_errors():
    page = render("page.html", title="<a> & b")
    assert "<title>&lt;a&gt; &amp; b</title>" in page
    with pytest.raises(UndefinedError, match="title"):
        render("page.html")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "vidmatte clip.mp4 --ref-frame 5 --points 80,20"),
        ({"sources": ["/shots/a b/c d.mov"]}, "vidmatte 'c d.mov' --ref-frame 5 --points 80,20"),
        (
            {"options": {"smooth": 0.5, "segment_frames": 9, "matte": "/far/m.mkv"}},
            "vidmatte clip.mp4 --ref-frame 5 --points 80,20 --smooth 0.5 --matte m.mkv",
        ),
        (
            {
                "objects": {"": [vidmatte.Prompt(mask=Path("/far/m.png"))]},
                "reference": "/far/hero.png",
            },
            "vidmatte clip.mp4 --reference hero.png --mask m.png",
        ),
        (
            {"objects": {"cat": [vidmatte.Prompt(box=(1, 2, 3, 4))]}},
            "vidmatte clip.mp4 --prompts FILE.json",
        ),
    ],
)
def test_recipe_is_the_command_without_outputs_and_folders(given, wanted):
    start = {
        "objects": {"": [vidmatte.Prompt(frame=5, points=((80, 20, 1),))]},
        "sources": ["clip.mp4"],
    }
    assert invocation(**(start | given)).recipe() == wanted


def test_movies_keep_the_command_however_they_were_rendered(half, clip, tmp_path):
    """In one go or in segments."""
    chosen = ["--ref-frame", "5", "--points", "80,20", "--foreground", "source"]
    for name, words in (("a", []), ("b", ["--segment-frames", "5"])):
        done = run(clip, *chosen, *words, "-o", tmp_path / f"{name}.mov")
        assert done.exit_code == 0, done.output
    with av.open(str(tmp_path / "a.mov")) as container:
        wanted = "vidmatte clip.mp4 --ref-frame 5 --points 80,20 --foreground source"
        assert container.metadata["com.apple.quicktime.comment"] == wanted
    assert (tmp_path / "a.mov").read_bytes() == (tmp_path / "b.mov").read_bytes()
