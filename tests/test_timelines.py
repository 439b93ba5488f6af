"""Timelines of editing programs: what is rendered for them, and where the mattes go.

Mattes are decoded and compared with the source at every frame of the new timelines, which are read
by OpenTimelineIO and its adapters.
"""

import shutil
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_batch import OneWorker
from timelines import NTSC24, NTSC30, NTSC60, numbers_in, write_media

from vidmatte.batch.manifest import load_edit
from vidmatte.batch.results import Results
from vidmatte.batch.run import BatchRun
from vidmatte.cli import cli
from vidmatte.cli.timelines import write_timelines
from vidmatte.edit.open import open_timeline
from vidmatte.edit.shots import EditOptions, read_edit
from vidmatte.edit.write import NewTimelines
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
    written, missing = write_timelines(edit, made, runs, quiet=True)
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
