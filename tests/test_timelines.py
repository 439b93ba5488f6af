"""Timelines of editing programs: what is rendered for them, and where the mattes go.

Mattes are decoded and compared with the source at every frame of the new timelines, which are read
by OpenTimelineIO and its adapters.
"""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from test_batch import OneWorker
from test_containers import write_interlaced
from timelines import NTSC24, NTSC30, NTSC60, numbers_in, write_media

from vidmatte.batch.manifest import load_edit
from vidmatte.batch.results import Results
from vidmatte.batch.run import BatchRun
from vidmatte.cli import cli
from vidmatte.cli.timeline_outputs import write_rendered
from vidmatte.edit import aaf_tracks
from vidmatte.edit.choose import Choice, EditOptions
from vidmatte.edit.open import open_timeline
from vidmatte.edit.place import Leftovers, matte_tracks, mattes_of
from vidmatte.edit.shots import read_edit
from vidmatte.edit.uses import uses_of
from vidmatte.edit.write import NewTimelines
from vidmatte.errors import OptionError, ReadError, WriteError
from vidmatte.read import open_video
from vidmatte.web.session import Session

otio = pytest.importorskip("opentimelineio")

HOUR = 86400
"""01:00:00:00 at 24 frames per second."""
MATTES = {"model": "none", "source_alpha": "matte"}


def time(value, rate=NTSC24):
    return otio.opentime.RationalTime(value, float(rate))


def span(start, length, rate=NTSC24):
    return otio.opentime.TimeRange(time(start, rate), time(length, rate))


def clip(name, file, available, shown, rate=NTSC24, **more):
    reference = otio.schema.ExternalReference(Path(file).as_uri(), span(*available, rate))
    reference.name = Path(file).name
    return otio.schema.Clip(name, reference, span(*shown, rate), **more)


def gap(length, rate=NTSC24):
    return otio.schema.Gap(source_range=span(0, length, rate))


def dissolve(before, after, rate=NTSC24):
    return otio.schema.Transition(
        transition_type="SMPTE_Dissolve", in_offset=time(before, rate), out_offset=time(after, rate)
    )


def timeline(*tracks, start=HOUR, rate=NTSC24):
    made = otio.schema.Timeline("cut", global_start_time=time(start, rate))
    for number, items in enumerate(tracks, 1):
        track = otio.schema.Track(f"V{number}", kind="Video")
        track.extend(items)
        made.tracks.append(track)
    return made


def save(made, path):
    otio.adapters.write_to_file(made, str(path))
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Three clips of 60 frames: 1 and 2 with timecode at 23.976, 3 without any at 25."""
    folder = tmp_path_factory.mktemp("media")
    write_media(folder / "a.mov", 1, frames=60)
    write_media(folder / "b.mov", 2, frames=60, timecode="02:00:00:00")
    write_media(folder / "c.mov", 3, frames=60, rate=Fraction(25), timecode=None)
    return folder


def render(path, options=None, outputs=None, **choices):
    """Render a timeline in this process, and return its edit, the runs and the new timelines."""
    edit = read_edit(path, options)
    changes = {**MATTES, **(outputs or {})}
    made = NewTimelines.of(edit, None, overwrite=choices.get("overwrite", False))
    made.check(edit)
    shots = load_edit(edit, changes=changes, **choices)
    runs = BatchRun(shots, OneWorker(), Results(path.with_suffix(".jsonl")), threads=1).run()
    written, missing = write_rendered(edit, made, runs, quiet=True)
    return edit, runs, written, missing


def shown(track, rate):
    """Yield timeline frame, file and frame of the file for what a track shows, transitions too."""
    at = Fraction(0)
    items = list(track)
    for index, item in enumerate(items):
        if isinstance(item, otio.schema.Transition):
            continue
        source = item.trimmed_range()
        length = Fraction(source.duration.value / source.duration.rate * float(rate))
        length = Fraction(round(length))
        if isinstance(item, otio.schema.Clip):
            near = (index and items[index - 1], index + 1 < len(items) and items[index + 1])
            head, tail = (
                each if isinstance(each, otio.schema.Transition) else None for each in near
            )
            first = -head.in_offset.value if head else 0
            last = length + (tail.out_offset.value if tail else 0)
            factor = 1.0
            for effect in item.effects:
                factor *= getattr(effect, "time_scalar", 1)
            reference = item.media_reference
            start = source.start_time - reference.available_range.start_time
            file_rate = reference.available_range.start_time.rate
            for frame in range(int(first), int(last)):
                passed = otio.opentime.RationalTime(frame * factor, float(rate))
                moment = start.rescaled_to(file_rate) + passed.rescaled_to(file_rate)
                yield int(at) + frame, reference, int(moment.value + 1e-6)
        at += length


def path_of(reference):
    return Path(otio.url_utils.filepath_from_url(reference.target_url))


def compare(given, made, rate, clips, *, track=0, matte=None):
    """Compare each frame of a matte track with the source below; return how many were compared.

    `clips` is the number of each media file by name.
    """
    videos = [each for each in made.tracks if each.kind == "Video"]
    matte = videos[-1] if matte is None else videos[matte]
    sources = {}
    for frame, reference, number in shown(given.tracks[track], rate):
        sources.setdefault(frame, set()).add((clips[path_of(reference).name], number))
    mattes = {}
    decoded = {}
    for frame, reference, number in shown(matte, rate):
        path = path_of(reference)
        assert reference.available_range.duration.value == len(
            decoded.setdefault(path, numbers_in(path))
        )
        mattes.setdefault(frame, set()).add(decoded[path][number])
    for frame, found in mattes.items():
        assert found == sources[frame], frame
    return len(mattes)


CLIPS = {"a.mov": 1, "b.mov": 2, "c.mov": 3}


def cut(media):
    """A dissolve between two clips, a gap, and the first clip again."""
    return timeline(
        [
            clip("a", media / "a.mov", (HOUR, 60), (HOUR + 10, 20)),
            dissolve(4, 4),
            clip("b", media / "b.mov", (2 * HOUR, 60), (2 * HOUR + 10, 20)),
            gap(10),
            clip("a", media / "a.mov", (HOUR, 60), (HOUR + 40, 10)),
        ]
    )


@pytest.mark.parametrize("kind", ["otio", "xml"])
def test_each_frame_of_the_mattes_is_that_of_the_source_below(media, tmp_path, kind):
    pytest.importorskip("otio_fcp_adapter")
    path = save(cut(media), tmp_path / f"cut.{kind}")
    edit, runs, written, missing = render(path, EditOptions(handles=3))
    assert [run.state for run in runs] == ["done", "done"]
    assert not missing
    # Both uses of a, with handles and the frames of the dissolve: 7 to 52.
    assert [(shot.name, shot.first, shot.last) for shot in edit.shots] == [
        ("a", 7, 52),
        ("b", 3, 32),
    ]
    assert edit.notes == ("a: is rendered once for 2 uses",)
    assert {file.name for file in written} == {"cut.mattes.otio", f"cut.mattes.{kind}"}
    for file in written:
        made = otio.adapters.read_from_file(str(file))
        assert made.global_start_time.value == HOUR
        assert len(made.tracks) == 2
        # 20 and 20 frames, 10 after the gap; the dissolve adds none.
        assert compare(cut(media), made, NTSC24, CLIPS) == 50
        names = [each.name for each in made.tracks[1] if isinstance(each, otio.schema.Clip)]
        assert names == ["a_alpha", "b_alpha", "a_alpha"]
    made = otio.adapters.read_from_file(str(tmp_path / "cut.mattes.otio"))
    reference = made.tracks[1][0].media_reference
    # The file begins 7 frames into the source, and its timecode says so.
    with open_video(path_of(reference)) as video:
        assert video.info.timecode == "01:00:00:07"
    assert reference.available_range == span(HOUR + 7, 46)
    # The clip's own source times are those of the clip below.
    assert made.tracks[1][0].source_range == made.tracks[0][0].source_range


EVENTS = """TITLE: cut
* remark of the editing program
FCM: DROP FRAME

001  A001     V     C        {a[10]} {a[20]} {at[0]} {at[10]}
* FROM CLIP NAME: a.mov
002  B001     V     C        {b[5]} {b[15]} {at[20]} {at[30]}
* FROM CLIP NAME: b
* LOC: 01:00:00:12 RED     VIDMATTE hero
003  B001     V     C        {b[15]} {b[15]} {at[30]} {at[30]}
003  A001     V     D    004 {a[30]} {a[40]} {at[30]} {at[40]}
* FROM CLIP NAME: b
* TO CLIP NAME: a
004  A001     V     C        {a[0]} {a[10]} {at[40]} {at[50]}
* FROM CLIP NAME: a.mov
M2   A001       {speed}                {a[0]}
"""


def edl(rate, speed=1.6):
    """Write down an EDL with drop-frame times, some of them with a colon as tapes had them."""

    def times(hour, before=0):
        first = otio.opentime.from_timecode(f"{hour:02}:00:00;00", float(rate)).value - before
        texts = [otio.opentime.to_timecode(time(first + n, rate), float(rate)) for n in range(60)]
        assert ";" in texts[0]
        return texts

    a = times(1)
    a[10] = a[10].replace(";", ":")
    # The record time goes over the hour.
    text = f"{float(rate) * speed:05.1f}"
    return EVENTS.format(a=a, b=times(2), at=times(1, before=10), speed=text)


@pytest.mark.parametrize("rate", [NTSC30, NTSC60])
def test_edls_with_drop_frame_dissolves_and_speeds(tmp_path, rate):
    pytest.importorskip("otio_cmx3600_adapter")
    write_media(tmp_path / "a.mov", 1, frames=60, rate=rate, timecode="01:00:00;00")
    write_media(tmp_path / "b.mov", 2, frames=60, rate=rate, timecode="02:00:00;00")
    (tmp_path / "cut.edl").write_text(edl(rate))
    options = EditOptions(rate=rate, media=tmp_path)
    edit, runs, written, missing = render(tmp_path / "cut.edl", options)
    assert [run.state for run in runs] == ["done"] * 3
    # 10 to 19, 30 to 39, 0 to 15 at 160 %; and b with the four frames of the dissolve.
    assert [(shot.name, shot.first, shot.last) for shot in edit.shots] == [
        ("a", 0, 19),
        ("b", 5, 18),
        ("a_2", 30, 39),
    ]
    assert "a: runs at 160 % speed; its mattes are in source time" in edit.notes
    assert not missing
    given = otio_of(edit, tmp_path)
    for file in written:
        again = open_timeline(file, rate=rate if file.suffix == ".edl" else None)
        assert compare(given, linked(again), rate, CLIPS) == 40
    text = (tmp_path / "cut.mattes.edl").read_text()
    assert "FCM: DROP FRAME" in text
    assert f"M2   AX       {1.6 * float(rate):05.1f}" in text
    first = otio.opentime.from_timecode("01:00:00;00", float(rate)).value - 10
    assert f" {otio.opentime.to_timecode(time(first, rate), float(rate))} " in text


def otio_of(edit, folder):
    """The timeline of an EDL with its media put in, which an EDL only names."""
    made = edit.timeline.deepcopy()
    rate = edit.shots[0].uses[0].rate
    for each in made.find_clips():
        name = each.name.removesuffix(".mov")
        start = {"a": 1, "b": 2}[name]
        first = otio.opentime.from_timecode(f"0{start}:00:00;00", float(rate))
        available = span(first.value, 60, rate)
        each.media_reference = otio.schema.ExternalReference(
            (folder / f"{name}.mov").as_uri(), available
        )
    return made


def linked(made):
    """An EDL that was read again, with the ranges of its media as the files have them."""
    for each in made.find_clips():
        reference = each.media_reference
        if hasattr(reference, "target_url") and reference.available_range is None:
            path = Path(reference.target_url)
            with open_video(path) as video:
                first = otio.opentime.from_timecode(
                    video.info.timecode, float(video.info.frame_rate)
                )
                reference.available_range = span(
                    first.value, video.count_frames(), video.info.frame_rate
                )
            reference.target_url = path.as_uri()
    return made


PROJECT = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE fcpxml>
<fcpxml version="1.10">
  <resources>
    <format id="r1" frameDuration="1001/24000s" width="64" height="48"/>
    <asset id="r2" name="a" start="86486400/24000s" duration="60060/24000s"
      hasVideo="1" format="r1">
      <media-rep kind="original-media" src="{a}"/>
    </asset>
    <asset id="r3" name="b" start="0s" duration="60060/24000s"
      hasVideo="1" format="r1">
      <media-rep kind="original-media" src="{b}"/>
    </asset>
    <asset id="r4" name="sound" start="0s" duration="10s" hasAudio="1"/>
    <media id="r5" name="both">
      <sequence format="r1" duration="40040/24000s" tcStart="0s"><spine>
        <asset-clip ref="r3" name="b" offset="0s" start="20020/24000s" duration="20020/24000s"/>
        <asset-clip ref="r2" name="a" offset="20020/24000s" start="86496410/24000s"
          duration="20020/24000s"/>
      </spine></sequence>
    </media>
  </resources>
  <library><event name="e"><project name="cut">
    <sequence format="r1" tcStart="86486400/24000s" tcFormat="NDF" duration="80080/24000s">
      <spine>
        <asset-clip ref="r2" name="a" offset="86486400/24000s" start="86496410/24000s"
          duration="20020/24000s">
          <note>vidmatte, please</note>
          <asset-clip ref="r3" name="b" lane="1" offset="86501415/24000s" start="5005/24000s"
            duration="10010/24000s"/>
          <asset-clip ref="r4" name="sound" lane="-1" offset="86496410/24000s" duration="1s"/>
          <marker start="86497411/24000s" duration="1001/24000s" value="hero"/>
        </asset-clip>
        <transition name="Cross Dissolve" offset="86502416/24000s" duration="8008/24000s"/>
        <asset-clip ref="r3" name="b" offset="86506420/24000s" start="10010/24000s"
          duration="10010/24000s"/>
        <gap name="Gap" offset="86516430/24000s" start="86486400/24000s" duration="10010/24000s"/>
        <ref-clip ref="r5" name="both" offset="86526440/24000s" start="10010/24000s"
          duration="20020/24000s"/>
        <asset-clip ref="r3" name="fast" offset="86546460/24000s" start="1001/24000s"
          duration="10010/24000s">
          <timeMap>
            <timept time="0s" value="0s" interp="smooth2"/>
            <timept time="30030/24000s" value="60060/24000s" interp="smooth2"/>
          </timeMap>
        </asset-clip>
        <asset-clip ref="r3" name="ramp" offset="86556470/24000s" duration="10010/24000s">
          <timeMap>
            <timept time="0s" value="0s"/><timept time="1s" value="1s"/>
            <timept time="2s" value="5s"/>
          </timeMap>
        </asset-clip>
      </spine>
    </sequence>
  </project></event></library>
</fcpxml>
"""


def project(folder, **changes):
    write_media(folder / "a.mov", 1, frames=60)
    write_media(folder / "b.mov", 2, frames=60, timecode=None)
    text = PROJECT.format(**{name: (folder / f"{name}.mov").as_uri() for name in "ab"})
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "cut.fcpxml").write_text(text)
    return folder / "cut.fcpxml"


def test_final_cut_pro_projects_at_23_976_with_all_that_they_hold(tmp_path):
    path = project(tmp_path)
    # By hand: the start of each item in frames, its lane, its clip, its first frame, its speed.
    wanted = {
        (0, "a"): [(1, 10 + n) for n in range(20)],
        (5, "b"): [(2, 5 + n) for n in range(10)],
        (20, "b"): [(2, 10 + n) for n in range(10)],
        (40, "b"): [(2, 30 + n) for n in range(10)],
        (50, "a"): [(1, 10 + n) for n in range(10)],
        (60, "fast"): [(2, 2 + 2 * n) for n in range(10)],
    }
    _, runs, written, missing = render(path, EditOptions(handles=1))
    assert not missing
    states = {run.name: run.state for run in runs}
    assert states.pop("ramp") == "failed"
    assert set(states.values()) == {"done"}
    assert "its speed is not constant (timeMap)" in next(r.reason for r in runs if r.name == "ramp")
    for file in written:
        made = open_timeline(file)
        found = {}
        for track in made.tracks:
            if not track.name.endswith("alpha") and file.suffix == ".otio":
                continue
            for frame, reference, number in shown(track, NTSC24):
                if path_of(reference).parent.name == "cut_mattes":
                    found.setdefault(frame, set()).add(numbers_in(path_of(reference))[number])
        for (first, _), frames in wanted.items():
            for frame, each in enumerate(frames, first):
                assert each in found[frame], (file, frame)
        assert not set(range(30, 40)) & found.keys() - set(range(30, 34))
        assert 70 not in found


def test_the_picker_goes_through_the_media_of_a_timeline(media, tmp_path, monkeypatch):
    for file in media.iterdir():
        shutil.copy(file, tmp_path)
    items = [
        clip("a", tmp_path / "a.mov", (HOUR, 60), (HOUR + 30, 10)),
        clip("a", tmp_path / "a.mov", (HOUR, 60), (HOUR + 5, 10)),
        clip("gone", tmp_path / "gone.mov", (HOUR, 60), (HOUR + 5, 10)),
        clip("b", tmp_path / "b.mov", (2 * HOUR, 60), (2 * HOUR + 10, 20)),
    ]
    path = save(timeline(items), tmp_path / "cut.otio")
    opened = []

    def mark(config, **where):
        """Stand in for a person at the page: one click on the frame that is shown."""
        if len(opened) > 1:
            opened.append((config.source.name, config.frame))
            return
        with closing(Session(config)) as session:
            project = session.project
            opened.append((config.source.name, session.first_shown, project.start, project.end))
            add = {"op": "add_point", "object": 1, "frame": session.first_shown, "label": 1}
            session.edit({**add, "x": 10, "y": 10})

    monkeypatch.setattr("vidmatte.web.server.pick", mark)
    words = ["pick", str(path), "--device", "cpu", "--no-browser"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    # In the order of the timeline, at the frames that it shows.
    assert opened == [("a.mov", 5, 5, 39), ("b.mov", 10, 10, 29)]
    assert "1 of 2: " in done.output
    assert "Left out: gone: its media" in done.output
    # What is marked is not opened again, and a batch has all its marks.
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert len(opened) == 2
    assert "3 of 4 shots are marked" in done.output
    shots = load_edit(read_edit(path))
    assert [shot.name for shot in shots if not shot.problem] == ["a", "a_2", "b"]
    (prompts,) = shots[0].request.prompts.objects.values()
    assert prompts[0].points == ((10, 10, 1),)
    assert CliRunner().invoke(cli, [*words, "--again"]).exit_code == 0
    assert opened[2:] == [("a.mov", "index:5"), ("b.mov", "index:10")]
    refused = CliRunner().invoke(cli, [*words, "--prompts", "x.json"])
    assert refused.exit_code == 2
    refused = CliRunner().invoke(cli, ["pick", str(tmp_path / "a.mov"), "--handles", "3"])
    assert refused.exit_code == 2
    assert "it is for timelines" in refused.output


def problems(made, folder, options=None, kind="otio"):
    """Reasons of the shots of a timeline by name; empty for those that can be rendered."""
    edit = read_edit(save(made, folder / f"cut.{kind}"), options)
    return {shot.name: shot.problem for shot in edit.shots}


def test_bad_shots_are_named_and_the_others_are_rendered(media, tmp_path):
    effects = otio.schema
    a = media / "a.mov"
    items = [
        clip("good", a, (HOUR, 60), (HOUR, 5)),
        clip("gone", media / "gone.mov", (HOUR, 60), (HOUR, 5)),
        clip("long", a, (HOUR, 90), (HOUR + 50, 20)),
        clip("early", a, (HOUR, 60), (HOUR - 2, 5)),
        clip("frozen", a, (HOUR, 60), (HOUR, 5), effects=[effects.FreezeFrame()]),
        clip("back", a, (HOUR, 60), (HOUR, 5), effects=[effects.LinearTimeWarp(time_scalar=-1)]),
        clip("ramp", a, (HOUR, 60), (HOUR, 5), effects=[effects.TimeEffect(effect_name="Ramp")]),
        clip("rate", media / "c.mov", (0, 60), (0, 5), NTSC30),
        clip("nothing", a, (HOUR, 60), (HOUR, 5)),
    ]
    items[-1].enabled = False
    path = save(timeline(items), tmp_path / "cut.otio")
    edit, runs, written, missing = render(path)
    assert edit.shots[0].last == 4
    reasons = {run.name: run.reason for run in runs if run.state == "failed"}
    (done,) = (run.name for run in runs if run.state == "done")
    assert done == "good"
    assert reasons == {
        "gone": f"its media {media / 'gone.mov'} was not found; name the folder that holds it "
        f"with --media DIR",
        "long": f"it shows frames 50 to 69 of {a}, which has frames 0 to 59; link the whole media "
        f"again",
        "early": f"it shows frames -2 to 2 of {a}, which has frames 0 to 59; link the whole media "
        f"again",
        "frozen": "it is a freeze frame",
        "back": "it plays backwards",
        "ramp": "its speed is not constant (Ramp)",
        "rate": f"the timeline takes its media for 29.97 frames/s, and {media / 'c.mov'} has 25; "
        f"link the media again in the editing program",
    }
    assert not missing
    made = otio.adapters.read_from_file(str(written[0]))
    assert [type(each).__name__ for each in made.tracks[-1]] == ["Clip"]
    assert compare(timeline(items[:1]), made, NTSC24, CLIPS) == 5
    # What failed is repaired, and the next run adds it: its own timeline may be replaced.
    items[1] = clip("gone", media / "b.mov", (2 * HOUR, 60), (2 * HOUR, 5))
    save(timeline(items), path)
    _, runs, written, _ = render(path)
    assert [run.state for run in runs][:2] == ["up to date", "done"]
    made = otio.adapters.read_from_file(str(written[0]))
    assert compare(timeline(items[:2]), made, NTSC24, CLIPS) == 10
    # Somebody moves a clip in it: it is theirs now.
    made.tracks[-1][0].source_range = span(HOUR + 1, 5)
    save(made, written[0])
    with pytest.raises(WriteError, match="exists; replace it with overwrite=True"):
        render(path)
    assert render(path, overwrite=True)[2]


@pytest.mark.parametrize(
    ("text", "name", "options", "error", "message"),
    [
        ("", "no.otio", {}, ReadError, "no such timeline"),
        ("{", "cut.otio", {}, ReadError, "cannot be read as a timeline"),
        ("<xmeml/>", "cut.xml", {}, ReadError, "cannot be read as a timeline"),
        ("<fcpxml version='1.10'/>", "cut.fcpxml", {}, ReadError, "holds no project"),
        ("no aaf", "cut.aaf", {}, ReadError, "is not an AAF file"),
        ("TITLE: x\n", "cut.edl", {"rate": NTSC24}, ReadError, "holds no event"),
        (EVENTS, "cut.edl", {}, OptionError, "give it, as in frame_rate 23.976"),
        (EVENTS, "cut.xml", {"rate": NTSC24}, OptionError, "has its own frame rate"),
        (
            "FCM: DROP FRAME\n001 A V C 01:01:00:00 01:01:01:00 01:00:00:00 01:00:01:00\n",
            "cut.edl",
            {"rate": NTSC24},
            ReadError,
            "the time 01:01:00;00 does not exist at 23.976 frames/s",
        ),
    ],
)
def test_a_timeline_that_cannot_be_read_is_one_line(tmp_path, text, name, options, error, message):
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message) as found:
        read_edit(tmp_path / name, EditOptions(**options))
    assert "\n" not in str(found.value)
    assert str(tmp_path / name) in str(found.value)


def test_timelines_without_the_asked_clips_are_refused(media, tmp_path):
    items = [clip("a", media / "a.mov", (HOUR, 60), (HOUR, 5))]
    items[0].markers.append(otio.schema.Marker("Check", span(HOUR, 1)))
    path = save(timeline(items, items_of_titles()), tmp_path / "cut.otio")
    for choice, message in (
        (Choice(tracks=("V9",)), r"--track 'V9' is not in .*cut.otio; its video tracks are V1, V2"),
        (Choice(marker="hero"), r"--marker 'hero': no clip of .* has it .*; there are 'check'"),
        (Choice(tracks=("2",)), "shows no clip with media there"),
    ):
        with pytest.raises(OptionError, match=message):
            read_edit(path, EditOptions(choice=choice))
    with pytest.raises(OptionError, match=r"--media .*: no such folder"):
        read_edit(path, EditOptions(media=tmp_path / "none"))
    with pytest.raises(OptionError, match="outside of --root"):
        read_edit(path, EditOptions(root=tmp_path))
    save(otio.schema.Timeline("empty"), path)
    with pytest.raises(ReadError, match="has no video track with clips"):
        read_edit(path)


def items_of_titles():
    return [otio.schema.Clip("title", otio.schema.GeneratorReference("text"), span(0, 5))]


def test_clips_are_chosen_by_marker_note_and_track(media, tmp_path):
    a, b = media / "a.mov", media / "b.mov"
    marked = clip("marked", a, (HOUR, 60), (HOUR, 5))
    marked.markers.append(otio.schema.Marker("please VIDMATTE this", span(HOUR, 1)))
    noted = clip("noted", a, (HOUR, 60), (HOUR + 10, 5))
    noted.metadata["fcp_xml"] = {"comments": {"mastercomment1": "Vidmatte: hair"}}
    below = clip("below", b, (2 * HOUR, 60), (2 * HOUR, 5))
    other = clip("other", a, (HOUR, 60), (HOUR + 30, 5))
    above = clip("above", b, (2 * HOUR, 60), (2 * HOUR + 40, 5))
    made = timeline([marked, noted, below, other], [gap(12), above])
    # A marker of the sequence, with its timecode, above the third clip.
    made.tracks.markers.append(otio.schema.Marker("vidmatte", span(HOUR + 11, 1)))
    path = save(made, tmp_path / "cut.otio")

    def names(**choice):
        shots = read_edit(path, EditOptions(choice=Choice(**choice))).shots
        return [use.name for shot in shots for use in shot.uses]

    assert names() == ["marked", "noted", "below", "above", "other"]
    assert names(marker="vidmatte") == ["marked", "noted", "below"]
    assert names(tracks=("v2",)) == ["above"]
    assert names(tracks=("V1",), marker="hair") == ["noted"]


def test_media_are_found_by_path_name_and_reel(media, tmp_path):
    card = tmp_path / "rushes" / "card1"
    for folder in (card, tmp_path / "rushes" / "card2"):
        folder.mkdir(parents=True)
        shutil.copy(media / "a.mov", folder / "A001.mov")
    shutil.copy(media / "b.mov", card / "B001C002.mov")
    shutil.copy(media / "b.mov", tmp_path / "near.mov")
    gone = Path("/Volumes/shoot/card1/A001.mov")
    reel = otio.schema.Clip("take", otio.schema.MissingReference(), span(2 * HOUR, 5))
    reel.metadata["cmx_3600"] = {"reel": "b001c002"}
    windows = otio.schema.ExternalReference("file:///D:/my%20rushes/near.mov", span(2 * HOUR, 60))
    remark = otio.schema.Clip("001", otio.schema.MissingReference(), span(2 * HOUR + 30, 5))
    remark.metadata["cmx_3600"] = {"comments": [r"SOURCE FILE: Z:\\cards\\B001C002.mov"]}
    items = [
        remark,
        clip("same folder", gone, (HOUR, 60), (HOUR, 5)),
        reel,
        otio.schema.Clip("beside the timeline", windows, span(2 * HOUR, 5)),
        clip("either", "/else/A001.mov", (HOUR, 60), (HOUR + 20, 5)),
    ]
    path = save(timeline(items), tmp_path / "cut.otio")
    shots = read_edit(path, EditOptions(media=tmp_path / "rushes")).shots
    found = {shot.uses[0].name: shot.media and shot.media.path for shot in shots}
    assert found == {
        "001": card / "B001C002.mov",
        "same folder": card / "A001.mov",
        "take": card / "B001C002.mov",
        "beside the timeline": tmp_path / "near.mov",
        "either": None,
    }
    (either,) = (shot.problem for shot in shots if shot.name == "either")
    assert "is in" in either
    assert "more than once" in either


def test_speeds_of_final_cut_pro_7_keep_whole_in_points(media, tmp_path):
    """At 200 % the in point counts every second frame, so the matte begins at an even one."""
    pytest.importorskip("otio_fcp_adapter")
    items = [
        clip("fast", media / "a.mov", (HOUR, 60), (HOUR + 5, 10)),
        clip("slow", media / "b.mov", (2 * HOUR, 60), (2 * HOUR + 30, 10)),
    ]
    path = save(timeline(items), tmp_path / "cut.xml")
    root = ElementTree.parse(path)
    for item, speed in zip(root.iter("clipitem"), (200, 50), strict=True):
        item.append(ElementTree.fromstring(TIME_REMAP.format(speed=speed)))
    root.write(path)
    edit, _, written, missing = render(path, EditOptions(handles=1))
    assert not missing
    # In point 5 of the retimed clip is frame 10; 30 of the slow one is frame 15.
    assert [(shot.first, shot.last) for shot in edit.shots] == [(8, 30), (14, 20)]
    (xml,) = (file for file in written if file.suffix == ".xml")
    video = ElementTree.parse(xml).find(".//media/video")
    first, *_, last = video.findall("track")
    # The given track is as it was, with its filters.
    assert len(first.findall("clipitem/filter")) == 2
    for item, speed, number in zip(last.findall("clipitem"), (2, 0.5), (1, 2), strict=True):
        decoded = numbers_in(path_of_url(item.findtext("file/pathurl")))
        begin = int(item.findtext("in"))
        assert item.findtext("filter/effect/effectid") == "timeremap"
        for frame in range(10):
            shown_frame = decoded[int((begin + frame) * speed)]
            # What the host shows of the source: its own in point, counted the same way.
            own = {1: 5, 2: 30}[number]
            assert shown_frame == (number, int((own + frame) * speed))
    otio_file = otio.adapters.read_from_file(str(tmp_path / "cut.mattes.otio"))
    factors = [each.effects[0].time_scalar for each in otio_file.tracks[-1]]
    assert factors == [2, 0.5]
    assert otio_file.tracks[-1][0].source_range.start_time == time(HOUR + 10)


def test_an_odd_speed_is_rounded_in_final_cut_pro_7_and_said(media, tmp_path, capsys):
    """80.08 % has whole in points every 1001 frames only."""
    pytest.importorskip("otio_fcp_adapter")
    items = [clip("slow", media / "a.mov", (HOUR, 60), (HOUR + 11, 10))]
    path = save(timeline(items), tmp_path / "cut.xml")
    root = ElementTree.parse(path)
    for item in root.iter("clipitem"):
        item.append(ElementTree.fromstring(TIME_REMAP.format(speed="80.08")))
    root.write(path)
    edit = read_edit(path)
    # 11 times 0.8008 is 8.8; nine frames later it is 16.8.
    assert [(shot.first, shot.last) for shot in edit.shots] == [(8, 16)]
    shots = load_edit(edit, changes=MATTES)
    runs = BatchRun(shots, OneWorker(), Results(tmp_path / "r.jsonl"), threads=1).run()
    made = NewTimelines.of(edit, None, overwrite=False)
    write_rendered(edit, made, runs, quiet=False)
    said = capsys.readouterr().err
    assert "its in point at 80.08 % is a part of a frame, which .xml rounds" in said


TIME_REMAP = """<filter><effect><name>Time Remap</name><effectid>timeremap</effectid>
<effectcategory>motion</effectcategory><effecttype>motion</effecttype><mediatype>video</mediatype>
<parameter><parameterid>variablespeed</parameterid><value>0</value></parameter>
<parameter><parameterid>speed</parameterid><value>{speed}</value></parameter>
<parameter><parameterid>reverse</parameterid><value>FALSE</value></parameter></effect></filter>"""


def path_of_url(url):
    return Path(otio.url_utils.filepath_from_url(url))


def test_nested_sequences_are_flattened(media, tmp_path):
    """Two levels, each of which shows a part of the next."""
    inner = otio.schema.Track("inner", kind="Video")
    inner.extend(
        [
            clip("a", media / "a.mov", (HOUR, 60), (HOUR + 10, 10)),
            gap(4),
            clip("b", media / "b.mov", (2 * HOUR, 60), (2 * HOUR + 20, 10)),
        ]
    )
    low = otio.schema.Stack("low", [inner], span(2, 20))
    middle = otio.schema.Track("middle", kind="Video")
    middle.extend([gap(3), low])
    high = otio.schema.Stack("high", [middle], span(5, 16))
    warped = otio.schema.Stack("warped", [inner.deepcopy()], span(0, 10))
    warped.effects.append(otio.schema.LinearTimeWarp(time_scalar=2))
    made = timeline([gap(7), high, warped])
    path = save(made, tmp_path / "cut.otio")
    edit, runs, written, _ = render(path)
    # Frame 7 of the timeline is frame 5 of high, so 2 of low, so 4 of inner.
    assert [(use.name, use.first_frame, use.length) for use in edit.shots[0].uses] == [("a", 7, 6)]
    assert {run.name: run.state for run in runs} == {"a": "done", "b": "done", "a_2": "failed"}
    (reason,) = (run.reason for run in runs if run.state == "failed")
    assert "it is in the nested sequence 'warped', whose speed is changed" in reason
    made = otio.adapters.read_from_file(str(written[0]))
    found = {}
    for frame, reference, number in shown(made.tracks[-1], NTSC24):
        found[frame] = numbers_in(path_of(reference))[number]
    wanted = {7 + n: (1, 14 + n) for n in range(6)} | {17 + n: (2, 20 + n) for n in range(6)}
    assert found == wanted


def test_a_clip_at_25_in_a_timeline_at_23_976_keeps_its_rate(media, tmp_path):
    """It is shown in real time: 24 frames of the timeline are 25.025 of the clip."""
    item = clip("c", media / "c.mov", (0, 60), (10, 1), Fraction(25))
    item.source_range = otio.opentime.TimeRange(time(10, Fraction(25)), time(24))
    made = timeline([item])
    path = save(made, tmp_path / "cut.otio")
    edit, _, written, missing = render(path, EditOptions(handles=2))
    assert not missing
    assert (edit.shots[0].first, edit.shots[0].last) == (8, 37)
    assert edit.notes == (
        "c: has 25 frames/s in a timeline of 23.976; its mattes have the rate of the source",
    )
    made = otio.adapters.read_from_file(str(written[0]))
    assert compare(timeline([item.deepcopy()]), made, NTSC24, CLIPS) == 24


def test_fades_and_transitions_to_other_clips(media, tmp_path):
    """A matte dissolves with its clip, also from and to nothing."""
    items = [
        dissolve(0, 5),
        clip("a", media / "a.mov", (HOUR, 60), (HOUR + 10, 20)),
        dissolve(2, 3),
        clip("title", media / "b.mov", (2 * HOUR, 60), (2 * HOUR + 10, 20)),
        dissolve(4, 4),
        gap(10),
    ]
    items[3].media_reference = otio.schema.GeneratorReference("text", "Text", span(0, 60))
    made = timeline([gap(6), *items])
    path = save(made, tmp_path / "cut.otio")
    edit, _, written, _ = render(path)
    # The title's frames are not wanted; three more of a are.
    assert [(shot.name, shot.first, shot.last) for shot in edit.shots] == [("a", 10, 32)]
    track = otio.adapters.read_from_file(str(written[0])).tracks[-1]
    kinds = [type(each).__name__ for each in track]
    assert kinds == ["Gap", "Transition", "Clip", "Transition", "Gap"]
    assert (track[3].in_offset, track[3].out_offset) == (time(2), time(3))
    assert track.range_of_child_at_index(2) == span(6, 20)


def test_marks_beside_the_media_or_for_all_clips_of_a_name(media, tmp_path):
    for name in ("a.mov", "b.mov"):
        shutil.copy(media / name, tmp_path)
    point = {"frame": 3, "points": [[30, 20, 1]]}
    objects = [{"name": "person", "prompts": [point]}]
    marks = {"version": 2, "source": "a.mov", "objects": objects}
    (tmp_path / "a.prompts.json").write_text(json.dumps(marks))
    # One marked clip for all takes called hero.
    shutil.copy(media / "c.mov", tmp_path / "marked.mov")
    (tmp_path / "hero.prompts.json").write_text(json.dumps({**marks, "source": "marked.mov"}))
    items = [
        clip("a", tmp_path / "a.mov", (HOUR, 60), (HOUR, 5)),
        clip("hero.mov", tmp_path / "b.mov", (2 * HOUR, 60), (2 * HOUR, 5)),
        clip("hero.mov", tmp_path / "b.mov", (2 * HOUR, 60), (2 * HOUR + 20, 5)),
        clip("extra", tmp_path / "b.mov", (2 * HOUR, 60), (2 * HOUR + 40, 5)),
    ]
    edit = read_edit(save(timeline(items), tmp_path / "cut.otio"))
    shots = {shot.name: shot for shot in load_edit(edit)}
    assert list(shots) == ["a", "hero", "hero_2", "extra"]
    assert shots["a"].request.prompts.reference is None
    for name in ("hero", "hero_2"):
        assert shots[name].request.prompts.reference == tmp_path / "marked.mov"
        assert list(shots[name].request.prompts.objects) == ["person"]
    assert "it is not marked: there is neither b.prompts.json beside" in shots["extra"].problem
    assert shots["hero_2"].request.options.start == "index:20"
    assert shots["hero_2"].request.options.end == "index:24"
    # Marks from the command line are for all.
    assert not any(shot.problem for shot in load_edit(edit, changes={"points": "3,4"}))


def test_an_aaf_keeps_its_content_and_gets_tracks_of_mattes(media, tmp_path):
    """Written by the adapter, extended by vidmatte, read by the adapter."""
    pytest.importorskip("otio_aaf_adapter")
    to_nothing, to_clip = dissolve(3, 2), dissolve(4, 3)
    for each in (to_nothing, to_clip):
        each.metadata["AAF"] = aaf_dissolve(each)
    items = [
        clip("a", media / "a.mov", (HOUR, 60), (HOUR + 10, 20)),
        to_nothing,
        gap(6),
        clip("b", media / "b.mov", (2 * HOUR, 60), (2 * HOUR + 10, 20)),
        to_clip,
        clip("a", media / "a.mov", (HOUR, 60), (HOUR + 20, 10)),
    ]
    path = tmp_path / "cut.aaf"
    otio.adapters.write_to_file(timeline(items), str(path), use_empty_mob_ids=True)
    edit, runs, written, missing = render(path, EditOptions(handles=2))
    assert [(run.name, run.state) for run in runs] == [("a", "done"), ("b", "done")]
    assert [(shot.first, shot.last) for shot in edit.shots] == [(8, 33), (8, 34)]
    assert not missing
    given = otio.adapters.read_from_file(str(path))
    assert {file.suffix for file in written} == {".otio", ".aaf"}
    for file in written:
        made = otio.adapters.read_from_file(str(file))
        assert made.global_start_time == given.global_start_time
        tracks = [track for track in made.tracks if track.kind == "Video"]
        assert len(tracks) == 2
        assert [each.name for each in tracks[0].find_clips()] == ["a", "b", "a"]
        # 20, 20 and 10 frames, and 2 of a fade after its clip.
        assert compare(given, made, NTSC24, CLIPS) == 52
        kinds = [[type(each).__name__ for each in track] for track in tracks]
        assert kinds[0] == kinds[1]
        first = next(iter(tracks[1].find_clips()))
        assert first.media_reference.available_range.start_time.value == HOUR + 8
        assert first.source_range.start_time.value == HOUR + 10


def aaf_dissolve(transition):
    """What the adapter wants to know of a transition that it writes."""
    name = {"Name": "Picture"}
    operation = {
        "Name": "Video Dissolve",
        "Description": "",
        "DataDefinition": name,
        "Identification": "0c3bea40-fc05-11d2-8a29-0050040ef7d2",
        "IsTimeWarp": False,
        "Bypass": 0,
        "NumberInputs": 2,
        "OperationCategory": "OperationCategory_Effect",
    }
    points = [{"Value": 0, "Time": 0}, {"Value": 1, "Time": 1}]
    cut = int(transition.in_offset.value)
    return {"PointList": points, "OperationGroup": {"Operation": operation}, "CutPoint": cut}


def test_speeds_in_an_aaf_are_effects_that_its_readers_know(media, tmp_path):
    pytest.importorskip("otio_aaf_adapter")
    speeds = [otio.schema.LinearTimeWarp(time_scalar=scalar) for scalar in (2, 0.5)]
    items = [
        clip("a", media / "a.mov", (HOUR, 60), (HOUR + 10, 10), effects=speeds[:1]),
        dissolve(2, 2),
        clip("b", media / "b.mov", (2 * HOUR, 60), (2 * HOUR + 20, 10), effects=speeds[1:]),
    ]
    path = save(timeline(items), tmp_path / "cut.otio")
    edit, runs, _, _ = render(path)
    base = tmp_path / "base.aaf"
    plain = [clip("a", media / "a.mov", (HOUR, 60), (HOUR, 20))]
    otio.adapters.write_to_file(timeline(plain), str(base), use_empty_mob_ids=True)
    left = Leftovers()
    specs = {run.name: run.shot.request.outputs.specs for run in runs}
    tracks = matte_tracks(edit, mattes_of(edit, specs, left))
    aaf_tracks.write(base, tmp_path / "new.aaf", "cut", tracks, NTSC24, left)
    assert left.notes == ["V1 alpha: the transition at frame 10 is a cut in .aaf; the .otio has it"]
    made = open_timeline(tmp_path / "new.aaf")
    found = {}
    for use in uses_of(made)[0]:
        if use.lane[0] == 1:
            file = path_of(use.item.media_reference)
            start = use.item.media_reference.available_range.start_time.value
            for frame in range(use.length):
                number = int(use.source - int(start) + frame * use.speed.factor)
                found[use.first_frame + frame] = numbers_in(file)[number]
    wanted = {n: (1, 10 + 2 * n) for n in range(10)}
    wanted |= {10 + n: (2, 20 + n // 2) for n in range(10)}
    assert found == wanted


def test_colour_sequences_and_objects_have_tracks_of_their_own(media, tmp_path):
    """And the sequence of plates that is the media is found by one of its files."""
    with open_video(media / "a.mov") as video:
        (tmp_path / "plates").mkdir()
        for frame, alpha in zip(video.decode(), video.alpha(), strict=True):
            image = np.dstack([frame.rgb.transpose(1, 2, 0)[..., ::-1], alpha]) * 255
            name = f"plate.{1001 + frame.index}.png"
            cv2.imwrite(str(tmp_path / "plates" / name), image.round().astype(np.uint8))
    first = otio.schema.ExternalReference(
        (tmp_path / "plates" / "plate.1001.png").as_uri(), span(1001, 60)
    )
    named = otio.schema.ImageSequenceReference(
        f"{(tmp_path / 'plates').as_uri()}/", "plate.", ".png", 1001, 1, float(NTSC24), 4
    )
    named.available_range = span(0, 60)
    items = [
        otio.schema.Clip("one", first, span(1006, 5)),
        otio.schema.Clip("two", named, span(30, 5)),
    ]
    path = save(timeline(items), tmp_path / "cut.otio")
    outputs = {"output": "out/{shot}.mov:png", "alpha": "out/{shot}_alpha.%04d.png"}
    edit, _, written, missing = render(path, outputs=outputs)
    assert [(shot.name, shot.first, shot.last) for shot in edit.shots] == [
        ("one", 5, 9),
        ("two", 30, 34),
    ]
    assert not missing
    made = otio.adapters.read_from_file(str(written[0]))
    assert [track.name for track in made.tracks] == ["V1", "V1 colour", "V1 alpha"]
    movie, numbers = (track[0].media_reference for track in made.tracks[1:])
    assert path_of(movie) == tmp_path / "out" / "one.mov"
    assert numbers.start_frame == 1006
    assert numbers.abstract_target_url("####").endswith("/out/one_alpha.####.png")
    for number in (0, 4):
        image = path_of_url(numbers.target_url_for_image_number(number))
        assert numbers_in(image) == [(1, 5 + number)]
    assert made.tracks[2][1].media_reference.start_frame == 1031


def test_the_command_renders_a_timeline_and_says_where_the_new_one_is(media, tmp_path):
    items = [
        clip("a", media / "a.mov", (HOUR, 60), (HOUR + 5, 5)),
        clip("gone", media / "gone.mov", (HOUR, 60), (HOUR, 5)),
    ]
    save(timeline(items), tmp_path / "cut.otio")
    words = ["batch", str(tmp_path / "cut.otio"), "--handles", "2", "--workers", "1"]
    words += [word for key, value in MATTES.items() for word in ("--set", f"{key}={value}")]
    plan = CliRunner().invoke(cli, [*words, "--dry-run", "--json"])
    facts = {each["shot"]: each for each in json.loads(plan.stdout)["shots"]}
    assert (facts["a"]["state"], facts["a"]["frames"]) == ("ready", 9)
    assert facts["gone"]["state"] == "refused"
    assert not (tmp_path / "cut.mattes.otio").exists()
    words += ["--new-timeline", str(tmp_path / "made.otio")]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [shot["state"] for shot in found["shots"]] == ["done", "failed"]
    assert found["shots"][1]["error"] == "ReadError"
    assert found["timelines"] == [str(tmp_path / "made.otio")]
    made = otio.adapters.read_from_file(found["timelines"][0])
    assert compare(timeline(items[:1]), made, NTSC24, CLIPS) == 5
    # On a farm, each task reads the timeline again, with the same choices.
    words = [*words, "--export", "openjd", str(tmp_path / "job"), "--track", "V1"]
    items.pop()
    save(timeline(items), tmp_path / "cut.otio")
    done = CliRunner().invoke(cli, [*words, "--overwrite"])
    assert done.exit_code == 0, done.output
    template = (tmp_path / "job" / "template.json").read_text()
    assert "--handles 2" in template or '"--handles", "2"' in template
    # The farm has rendered, and the timeline is put together here.
    (tmp_path / "made.otio").unlink()
    words = [*words[: words.index("--export")], "--assemble"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    again = otio.adapters.read_from_file(str(tmp_path / "made.otio"))
    assert compare(timeline(items), again, NTSC24, CLIPS) == 5
    (tmp_path / "cut_mattes" / "a_alpha.mov").unlink()
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert "not in the new timeline" in done.output
    refused = CliRunner().invoke(cli, ["batch", str(tmp_path), "--marker", "x"])
    assert refused.exit_code == 2
    assert "it is for timelines" in refused.output


def test_the_adapter_of_final_cut_pro_reads_the_new_project(media, tmp_path):
    """It knows whole rates and the media of old versions only."""
    pytest.importorskip("otio_fcpx_xml_adapter")
    rate = Fraction(25)
    for name, number in (("a", 1), ("b", 2)):
        write_media(tmp_path / f"{name}.mov", number, frames=60, rate=rate, timecode=None)
    text = PROJECT_25.format(**{name: (tmp_path / f"{name}.mov").as_uri() for name in "ab"})
    (tmp_path / "cut.fcpxml").write_text(text)
    _, _, written, missing = render(tmp_path / "cut.fcpxml", EditOptions(handles=2))
    assert not missing
    (file,) = (each for each in written if each.suffix == ".fcpxml")
    made = otio.adapters.read_from_file(str(file))
    below, mattes = made.tracks
    assert [each.name for each in mattes.find_clips()] == ["a_alpha", "b_alpha"]
    assert compare(made, made, rate, CLIPS, track=list(made.tracks).index(below)) == 30


PROJECT_25 = """<fcpxml version="1.8"><resources>
<format id="r1" frameDuration="1/25s" width="64" height="48"/>
<asset id="r2" name="a" start="0s" duration="60/25s" hasVideo="1" format="r1" src="{a}"/>
<asset id="r3" name="b" start="0s" duration="60/25s" hasVideo="1" format="r1" src="{b}"/>
</resources><project name="cut"><sequence format="r1" duration="40/25s"><spine>
<asset-clip ref="r2" name="a" offset="0s" start="10/25s" duration="20/25s"/>
<gap name="Gap" offset="20/25s" start="0s" duration="10/25s"/>
<asset-clip ref="r3" name="b" offset="30/25s" start="40/25s" duration="10/25s"/>
</spine></sequence></project></fcpxml>"""


PREMIERE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE xmeml>
<xmeml version="4"><project><name>p</name><children>
<bin><name>rushes</name><children>
  <clip id="masterclip-1"><name>a.mov</name><duration>60</duration><media><video><track>
    <clipitem id="clipitem-9"><name>a.mov</name><file id="file-1"/></clipitem>
  </track></video></media></clip>
</children></bin>
<sequence id="sequence-1"><name>cut</name><duration>70</duration>
<rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
<timecode><rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <string>01;00;00;00</string><frame>107892</frame><displayformat>DF</displayformat></timecode>
<media><video>
<format><samplecharacteristics><width>64</width><height>48</height></samplecharacteristics></format>
<track>
<clipitem id="clipitem-1"><masterclipid>masterclip-1</masterclipid><name>a.mov</name>
  <enabled>TRUE</enabled><duration>60</duration>
  <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <start>5</start><end>-1</end><in>10</in><out>28</out>
  <file id="file-1"><name>a.mov</name><pathurl>file://localhost{a}</pathurl>
    <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate><duration>60</duration>
    <timecode><rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
      <string>01;00;00;00</string><frame>107892</frame><displayformat>DF</displayformat></timecode>
    <media><video/></media></file>
  <filter><effect><name>Basic Motion</name><effectid>basic</effectid>
    <parameter><parameterid>scale</parameterid><value>50</value></parameter></effect></filter>
  <logginginfo><lognote>vidmatte</lognote></logginginfo></clipitem>
<transitionitem><start>17</start><end>23</end><alignment>center</alignment>
  <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <effect><name>Cross Dissolve</name><effectid>Cross Dissolve</effectid></effect></transitionitem>
<clipitem id="clipitem-2"><name>b.mov</name><duration>60</duration>
  <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <start>-1</start><end>40</end><in>17</in><out>40</out>
  <file id="file-2"><name>b.mov</name><pathurl>file://localhost{b}</pathurl>
    <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate><duration>60</duration>
    <media><video/></media></file></clipitem>
<clipitem id="clipitem-3"><name>off</name><enabled>FALSE</enabled><duration>60</duration>
  <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <start>40</start><end>45</end><in>0</in><out>5</out><file id="file-2"/></clipitem>
<clipitem id="clipitem-4"><name>nest</name><duration>20</duration>
  <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <start>50</start><end>60</end><in>3</in><out>13</out>
  <sequence id="sequence-2"><name>nest</name><duration>20</duration>
    <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
    <media><video><track><clipitem id="clipitem-5"><name>a.mov</name><duration>60</duration>
      <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
      <start>0</start><end>20</end><in>30</in><out>50</out><file id="file-1"/></clipitem>
    </track></video></media></sequence></clipitem>
</track></video>
<audio><track><clipitem id="clipitem-6"><name>a.mov</name><duration>60</duration>
  <rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>
  <start>5</start><end>20</end><in>10</in><out>25</out><file id="file-1"/></clipitem>
</track></audio>
</media></sequence></children></project></xmeml>
"""


def test_a_sequence_as_premiere_writes_it(tmp_path):
    """Drop-frame, a dissolve, files named once, a nested sequence, a clip that is off, sound."""
    pytest.importorskip("otio_fcp_adapter")
    write_media(tmp_path / "a.mov", 1, frames=60, rate=NTSC30, timecode="01:00:00;00")
    write_media(tmp_path / "b.mov", 2, frames=60, rate=NTSC30, timecode="05:00:00;00")
    path = tmp_path / "cut.xml"
    path.write_text(PREMIERE.format(a=tmp_path / "a.mov", b=tmp_path / "b.mov"))
    edit, _, written, missing = render(path, EditOptions(handles=1))
    assert not missing
    assert [(shot.name, shot.first, shot.last) for shot in edit.shots] == [
        ("a", 9, 28),
        ("b", 16, 40),
        ("a_2", 32, 43),
    ]
    # 20 is the cut; the first clip is shown from 5 on, with three frames of the dissolve after it.
    wanted = {5 + n: {(1, 10 + n)} for n in range(18)}
    for n in range(23):
        wanted.setdefault(17 + n, set()).add((2, 17 + n))
    wanted |= {50 + n: {(1, 33 + n)} for n in range(10)}
    for file in written:
        made = otio.adapters.read_from_file(str(file))
        assert made.global_start_time.value == 107892
        found = {}
        for frame, reference, number in shown(video(made)[-1], NTSC30):
            found.setdefault(frame, set()).add(numbers_in(path_of(reference))[number])
        assert found == wanted
    # What the adapter does not know is still there, and the rate and the timecode are right.
    text = path.with_name("cut.mattes.xml").read_text()
    assert "Basic Motion" in text
    root = ElementTree.fromstring(text)
    (name,) = {each.findtext("name") for each in root.iter("sequence")} - {"nest"}
    assert name == "cut"
    files = [each for each in root.iter("file") if "alpha" in (each.findtext("name") or "")]
    times = {each.findtext("name"): each.findtext("timecode/string") for each in files}
    assert times == {
        "a_alpha.mov": "01:00:00;09",
        "b_alpha.mov": "05:00:00;16",
        "a_2_alpha.mov": "01:00:01;02",
    }
    assert read_edit(path, EditOptions(choice=Choice(marker="vidmatte"))).shots[0].last == 27


def video(made):
    return [track for track in made.tracks if track.kind == "Video"]


def test_stills_are_left_out_and_interlaced_media_are_for_the_run_to_refuse(media, tmp_path):
    cv2.imwrite(str(tmp_path / "logo.png"), np.zeros((48, 64, 3), np.uint8))
    write_interlaced(tmp_path / "tape.mov")
    with pytest.raises(ReadError, match="is interlaced"):
        open_video(tmp_path / "tape.mov")
    items = [
        clip("logo", tmp_path / "logo.png", (0, 1), (0, 1), NTSC24),
        clip("tape", tmp_path / "tape.mov", (0, 12), (2, 5), Fraction(25)),
    ]
    items[0].source_range = span(0, 20)
    path = save(timeline(items), tmp_path / "cut.otio")
    edit = read_edit(path)
    assert edit.notes[0] == "left out: logo is a still image"
    assert [(shot.name, shot.problem) for shot in edit.shots] == [("tape", "")]
    save(timeline(items[:1]), path)
    with pytest.raises(OptionError, match="shows only still images"):
        read_edit(path)


def test_options_of_timelines_load_no_library():
    code = """
import sys, vidmatte.cli.pick
print([name for name in ("torch", "numpy", "av", "opentimelineio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
