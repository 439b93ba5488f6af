"""Long clips in segments: cut, rendered and joined; a stopped run ends with the same result."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import numbered_picture, read_number, write_movie

import vidmatte
from vidmatte.errors import OptionError, ReadError, WriteError
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.segments.fingerprint import fingerprint
from vidmatte.pipeline.segments.journal import Journal
from vidmatte.pipeline.segments.plan import JOIN, Plan, Schedule, Unit
from vidmatte.stages.passes import Pass

OPTIONS = vidmatte.MatteOptions(working_size=128, adapt_steps=0, segment_frames=5)


def units_of(plan: Plan) -> Sequence[Unit]:
    """All units of a plan, in the order in which one worker does them."""
    schedule = Schedule(plan)
    units = []
    while (unit := schedule.take()) is not None:
        units.append(unit)
        schedule.finish(unit)
    return units


FRAMES = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip of variable rate, with sound, whose frames show their number."""
    times = [0, 3, 5, 9, 14, 15, 18, 22, 23, 27, 31, 36]
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_movie(
        path, frames=FRAMES, times=times, time_base=Fraction(1, 100), sound=True, options={"g": "4"}
    )


def prompt(frame=0):
    return vidmatte.Prompt(frame=frame, box=(20, 10, 140, 80), points=((80, 24, 1),))


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outputs(folder):
    folder.mkdir(exist_ok=True)
    return {
        "output": [folder / "c.mov", folder / "c.webm", folder / "c.%04d.png"],
        "alpha": [
            folder / "a.mkv",
            folder / "a.mov",
            folder / "a.mp4",
            folder / "a.webm",
            folder / "a.%04d.png",
        ],
    }


def gray(path):
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        frames = [
            (frame.pts * base, frame.to_ndarray(format="gray16le"))
            for frame in container.decode(video=0)
        ]
    return [time for time, _ in frames], np.stack([picture for _, picture in frames])


def stop_after(monkeypatch, units):
    """Make the journal fail after that many units, which leaves it as a killed process does."""
    add, done = Journal.add, []

    def count(journal, record):
        add(journal, record)
        done.append(record)
        if len(done) == units + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", count)


# How far a cut clip may be from one at once: small mattes have 16 bits in both, so that nothing but
# the rounding of H.264 differs, by up to three codes.
APART = {"a.mkv": 0, "a.mov": 0, "c.mov": 0, "a.mp4": 3 / 255, "a.webm": 0}
# The lossy VP9 begins anew in each segment: two encodings, each 0.006 from its source on average.
LOSSY_APART = 2 * 0.006


def test_every_format_rendered_in_segments_equals_one_stream(clip, tmp_path):
    options = replace(OPTIONS, precision="float32")
    summary = vidmatte.matte(clip, prompt(), **outputs(tmp_path / "cut"), options=options)
    whole = vidmatte.matte(
        clip,
        prompt(),
        **outputs(tmp_path / "whole"),
        options=replace(options, segment_frames=FRAMES),
    )
    assert (summary.frames, whole.frames) == (FRAMES, FRAMES)
    assert [file.frames for file in summary.outputs] == [FRAMES] * 8
    cut, at_once = hashes(tmp_path / "cut"), hashes(tmp_path / "whole")
    assert cut.keys() == at_once.keys()  # and nothing hidden is left
    for name in (*APART, "c.webm"):
        times, pictures = gray(tmp_path / "cut" / name)
        expected_times, expected = gray(tmp_path / "whole" / name)
        assert times == expected_times
        error = np.abs(pictures.astype(int) - expected) / 65535
        if name in APART:
            assert error.max() <= APART[name]
        else:
            assert error.mean((1, 2)).max() <= LOSSY_APART
        with av.open(str(tmp_path / "cut" / name)) as container:
            assert len(container.streams.audio) == 1
    assert summary.confidence == pytest.approx(whole.confidence, abs=1e-3)


def test_parts_are_joined_without_loss_in_the_right_order(clip, tmp_path):
    options = replace(OPTIONS, foreground="source")
    vidmatte.matte(clip, prompt(), output=tmp_path / "c.%04d.png", options=options)
    with vidmatte.open_video(clip) as video:
        for frame in video.decode():
            written = cv2.imread(str(tmp_path / f"c.{frame.index:04d}.png"), cv2.IMREAD_UNCHANGED)
            solid = written[..., 3] > 0
            rgb = written[..., 2::-1].transpose(2, 0, 1) / 65535
            assert np.abs(rgb - frame.rgb.clip(0, 1))[:, solid].max(initial=0) < 1e-4
            assert read_number(frame.rgb) == frame.index


@pytest.mark.parametrize(("marks", "smooth"), [([0], 0.5), ([6], 0), ([2, 10], 0.5)], ids=str)
def test_resuming_after_any_unit_writes_the_same_files(clip, tmp_path, monkeypatch, marks, smooth):
    options = replace(OPTIONS, smooth=smooth)
    prompts = [prompt(frame) for frame in marks]

    def run(folder, **changes):
        folder.mkdir(exist_ok=True)
        return vidmatte.matte(
            clip,
            prompts,
            output=folder / "c.%04d.png",
            alpha=folder / "a.mkv",
            options=replace(options, **changes),
        )

    run(tmp_path / "whole")
    expected = hashes(tmp_path / "whole")
    stopped = 1
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, stopped)
            try:
                run(tmp_path / "stopped", resume=stopped > 1)
            except KeyboardInterrupt:
                visible = {
                    path.name: path
                    for path in (tmp_path / "stopped").iterdir()
                    if path.name[0] != "."
                }
                # Nothing is in place before the end, and then everything.
                assert visible.keys() in (set(), expected.keys())
                stopped += 2
                # From each place on, and from the first one again: what is resumed is itself
                # stopped.
                continue
        break
    assert stopped >= 5
    assert hashes(tmp_path / "stopped") == expected


def test_work_of_another_request_is_not_resumed(clip, tmp_path, monkeypatch):
    def run(**changes):
        return vidmatte.matte(
            clip, prompt(), alpha=tmp_path / "a.mkv", options=replace(OPTIONS, **changes)
        )

    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run()
    folder = tmp_path / ".a.mkv.vidmatte"
    assert folder.is_dir()
    with pytest.raises(
        OptionError,
        match=r"a run that was stopped left its work \(\d finished segments\).*resume=True",
    ):
        run()
    with pytest.raises(OptionError, match=r"with other inputs, prompts"):
        run(resume=True, smooth=0.5)
    run(overwrite=True, smooth=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_a_run_that_fails_before_its_first_segment_leaves_nothing(clip, tmp_path):
    with pytest.raises(ReadError):
        vidmatte.matte(tmp_path / "none.mp4", prompt(), alpha=tmp_path / "a.mkv", options=OPTIONS)
    (tmp_path / "b.mkv").write_bytes(b"mine")
    with pytest.raises(WriteError, match="exists already"):
        vidmatte.matte(clip, prompt(), alpha=tmp_path / "b.mkv", options=OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["b.mkv"]


def test_a_second_run_of_the_same_outputs_is_refused(clip, tmp_path):
    journal = Journal(tmp_path / ".a.mkv.vidmatte")
    with journal.lock(), pytest.raises(OptionError, match="another run is writing these outputs"):
        vidmatte.matte(clip, prompt(), alpha=tmp_path / "a.mkv", options=OPTIONS)


def test_the_report_covers_all_segments(clip, tmp_path):
    summary = vidmatte.matte(
        clip,
        prompt(),
        alpha=tmp_path / "a.mkv",
        report=tmp_path / "report",
        options=replace(OPTIONS, segment_frames=4),
    )
    rows = (tmp_path / "report/confidence.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(FRAMES))
    assert [float(row.split(",")[1]) for row in rows][:3] == [0, 0.03, 0.05]
    assert cv2.imread(str(tmp_path / "report/contact_sheet.jpg")) is not None
    assert summary.report.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "report"]


def test_resuming_does_not_adapt_again(clip, tmp_path, monkeypatch):
    options = replace(OPTIONS, adapt_steps=1)

    def run(folder, **changes):
        folder.mkdir(exist_ok=True)
        vidmatte.matte(clip, prompt(), alpha=folder / "a.mkv", options=replace(options, **changes))

    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(
            "vidmatte.model.compact.adapt.adapt",
            lambda *args, **choices: pytest.fail("it adapted again"),
        )
        run(tmp_path / "stopped", resume=True)
    assert hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")


def test_ranges_objects_and_image_sets_are_rendered_in_segments(clip, tmp_path):
    objects = {"left": prompt(), "right": prompt(11)}
    options = replace(OPTIONS, start="2", end="9", segment_frames=3)
    summary = vidmatte.matte(clip, objects, alpha=tmp_path / "{object}.mkv", options=options)
    assert [(file.frames, file.object_name) for file in summary.outputs] == [
        (8, "left"),
        (8, "right"),
    ]
    times, _ = gray(tmp_path / "left.mkv")
    assert times == [Fraction(time, 100) for time in (0, 4, 9, 10, 13, 17, 18, 22)]
    (tmp_path / "set").mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"set/p{number}.png"), numbered_picture(number, 160, 96))
    vidmatte.matte(
        tmp_path / "set",
        prompt(),
        images=True,
        output=tmp_path / "{name}_m.png",
        options=replace(options, start=None, end=None),
    )
    assert sorted(path.name for path in tmp_path.glob("*_m.png")) == [
        f"p{n}_m.png" for n in range(5)
    ]


def test_passes_are_cut_at_the_segments():
    # Ten frames from 100 on, in segments of four; marked at 103 and, before the first frame, at 95.
    passes = (Pass(95, 95, 101), Pass(103, 100, 102), Pass(103, 103, 109))
    plan = Plan(first=100, end=110, length=4, passes=(passes,), overlap=1)
    assert [plan.span(segment) for segment in range(plan.segments)] == [
        (100, 104),
        (104, 108),
        (108, 110),
    ]
    assert [plan.seen(segment) for segment in range(plan.segments)] == [
        (100, 105),
        (103, 109),
        (107, 110),
    ]
    assert list(plan.chunks(passes[0])) == [-2, -1, 0]
    assert [plan.chunk_span(passes[0], chunk) for chunk in (-2, -1, 0)] == [
        (95, 96),
        (96, 100),
        (100, 102),
    ]
    assert [unit.name for unit in plan.dependencies(1)] == [
        "propagate:0:2:0",
        "propagate:0:2:1",
        "propagate:0:2:2",
    ]
    assert [unit.name for unit in plan.dependencies(0)] == [
        "propagate:0:0:0",
        "propagate:0:1:0",
        "propagate:0:2:0",
        "propagate:0:2:1",
    ]
    assert list(plan.dependents(Unit("propagate", 1, 0, 2))) == [0, 1, 2]
    assert Plan.from_json(plan.as_json()) == plan


@pytest.mark.parametrize("ahead", [1, 8])
def test_units_come_after_what_they_need(ahead):
    passes = (Pass(17, 0, 16), Pass(17, 17, 39))
    plan = Plan(first=0, end=40, length=6, adapted=(0,), passes=(passes, passes), overlap=1)
    schedule, done = Schedule(plan, ahead=ahead), []
    while (unit := schedule.take()) is not None:
        if unit.kind == "propagate":
            predecessor = plan.predecessor(unit)
            assert predecessor is None or predecessor in done
        if unit.kind == "render":
            assert set(plan.dependencies(unit.index)) <= set(done)
        if unit.kind != "adapt":
            assert Unit("adapt", 0) in done
        done.append(unit)
        schedule.finish(unit)
    assert done[-1] == JOIN
    assert len(done) == len(set(done)) == 1 + 2 * (3 + 5) + 7 + 1
    # Whatever is done already is left out, and the rest still comes.
    for count in range(len(done)):
        again = Schedule(plan, [unit.name for unit in done[:count]])
        left = []
        while (unit := again.take()) is not None:
            left.append(unit)
            again.finish(unit)
        assert set(left) == set(done[count:])
    assert [Unit.parse(unit.name) for unit in done] == done == list(units_of(plan)) or ahead == 8


def test_a_line_cut_off_by_a_crash_does_not_count(tmp_path):
    journal = Journal(tmp_path / "j")
    with journal.lock():
        journal.begin({"key": "x"})
        journal.add({"unit": "render:0"})
    path = tmp_path / "j/journal.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"unit":"render:1","fra')
    assert list(journal.done()) == ["render:0"]
    journal.add({"unit": "render:2"})
    assert list(journal.done()) == ["render:0", "render:2"]
    path.write_text("{}\nno json\n")
    with pytest.raises(WriteError, match="is damaged"):
        list(journal.records())


def test_outputs_beside_source_frames_do_not_change_the_fingerprint(tmp_path):
    for number in range(3):
        (tmp_path / f"p.{number:04d}.png").write_bytes(bytes([number]))
    sources = tmp_path / "p.%04d.png", tmp_path
    requests = [
        Request.of(source, prompt(), alpha=tmp_path / "p.matte.%04d.png") for source in sources
    ]
    predecessor = [fingerprint(request).key for request in requests]
    (tmp_path / "p.matte.0000.png").write_bytes(b"an output")
    (tmp_path / ".p.matte.png.vidmatte").mkdir()
    (tmp_path / ".p.matte.png.vidmatte" / "journal.jsonl").write_text("{}\n")
    assert fingerprint(requests[0]).key == predecessor[0]
    (tmp_path / "p.0001.png").write_bytes(b"another frame")
    assert fingerprint(requests[0]).key != predecessor[0]
    assert fingerprint(requests[1]).key != predecessor[1]
