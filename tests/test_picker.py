"""The picker without a browser: marks, mattes, preview, run; the command line says the same."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import read_number, write_movie
from picker import QUICK, SIZE, Browser, InlineRun, disc, on_disc, opened, write_disc

import vidmatte
from vidmatte.cli import cli
from vidmatte.cli.console import has_display
from vidmatte.errors import OptionError, PromptError, ReadError
from vidmatte.imaging.morphology import grow
from vidmatte.model.compact.inference import WindowModel
from vidmatte.prompts.files import load_prompts, save_prompts
from vidmatte.prompts.prompt import Prompt
from vidmatte.web.edge import Edge
from vidmatte.web.frame_cache import DiskCache, FrameCache
from vidmatte.web.preview import Preview
from vidmatte.web.project import ClipInfo, History, Project, edited
from vidmatte.web.server import PickerServer, pick
from vidmatte.web.session import PickerConfig, Session
from vidmatte.web.still import Stills
from vidmatte.web.terminal import was_enter_pressed
from vidmatte.web.tips import Tips
from vidmatte.web.worker import SupersededError, Worker

BOUNDS = ClipInfo(24, *SIZE)


def gray(png: bytes) -> np.ndarray:
    """(h, w) in 0..1 of a PNG."""
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) / 255


def alphas(path) -> np.ndarray:
    with vidmatte.open_video(path) as video:
        return np.stack([batch.rgb[0, 0].numpy() for batch in video.batches(1)])


def wait_until(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def previewed(session) -> int:
    """Wait for the preview; returns how many frames were followed so far."""
    wait_until(lambda: session.preview.progress[0] == session.preview.progress[1] > 0)
    return session.preview.computed


def test_marks_become_prompts():
    project = Project()
    for edit in (
        on_disc(0),
        on_disc(0, x=5, y=7, label=0),
        on_disc(9),
        {
            "op": "add_stroke",
            "object": 1,
            "frame": 9,
            "points": [[1, 2], [3.456, 4]],
            "width": 5,
            "label": 0,
        },
        {"op": "set_box", "object": 1, "frame": 9, "box": [90, 80, 10, -4]},
        {"op": "set_range", "start": 2, "end": 23},
    ):
        project = edited(project, edit, BOUNDS)
    first, second = project.prompts["object"]
    assert first.points == ((48, 48, 1), (5, 7, 0))
    assert second.frame == 9
    assert second.strokes == (vidmatte.Stroke(((1, 2), (3.46, 4)), 5, 0),)
    assert second.box == (10, 0, 90, 80)
    assert (project.start, project.end) == (2, None)  # the end is the last frame anyway


def test_a_mark_is_moved_and_removed_and_a_frame_without_marks_is_no_reference():
    project = edited(Project(), on_disc(3), BOUNDS)
    project = edited(
        project, {"op": "move_point", "object": 1, "frame": 3, "index": 0, "x": 1, "y": 2}, BOUNDS
    )
    assert project.prompts["object"][0].points == ((1, 2, 1),)
    gone = {"op": "remove_prompt", "object": 1, "frame": 3, "kind": "points", "index": 0}
    assert edited(project, gone, BOUNDS).prompts == {}


def test_objects_have_names_that_stay_different_in_file_names():
    project = edited(Project(), {"op": "add_object", "name": "left hand"}, BOUNDS)
    assert [one.id for one in project.objects] == [1, 2]
    assert project.objects[0].color != project.objects[1].color
    with pytest.raises(PromptError, match="two objects would be called"):
        edited(project, {"op": "change_object", "object": 1, "name": "LEFT.hand"}, BOUNDS)
    project = edited(project, {"op": "remove_object", "object": 1}, BOUNDS)
    assert [one.name for one in project.objects] == ["left hand"]
    # There is always one.
    assert edited(project, {"op": "remove_object", "object": 2}, BOUNDS).objects


def test_an_extent_belongs_to_the_marks_of_a_frame():
    asked = {"op": "set_extent", "object": 1, "frame": 3, "extent": "part"}
    with pytest.raises(PromptError, match="frame 3 has no marks"):
        edited(Project(), asked, BOUNDS)
    point = {"op": "add_point", "object": 1, "frame": 3, "x": 5, "y": 5}
    project = edited(edited(Project(), point, BOUNDS), asked, BOUNDS)
    # Further marks keep it; a box, which says how large the object is, ends it.
    project = edited(project, {**point, "x": 9}, BOUNDS)
    assert project.object(1).prompts[3].extent == "part"
    box = {"op": "set_box", "object": 1, "frame": 3, "box": [2, 2, 20, 20]}
    assert edited(project, box, BOUNDS).object(1).prompts[3].extent is None
    with pytest.raises(PromptError, match="choose one of part, object, group"):
        edited(project, {**asked, "extent": "all"}, BOUNDS)


def test_undo_and_redo_go_through_all_states():
    history = History(Project())
    states = [history.project]
    for frame in range(3):
        history.push(edited(history.project, on_disc(frame), BOUNDS))
        states.append(history.project)
    for state in reversed(states[:-1]):
        history.step(-1)
        assert history.project == state
    assert not history.can_undo
    history.step(-1)
    assert history.project == states[0]
    history.step(1)
    assert history.project == states[1]
    history.push(edited(history.project, on_disc(9), BOUNDS))
    assert not history.can_redo


def test_a_newer_request_supersedes_one_that_waits_but_not_others():
    worker, gate = Worker(), threading.Event()
    try:
        running = worker.submit("click", gate.wait)
        wait_until(running.running)
        older, other, newer = (
            worker.submit(key, lambda n=n: n) for n, key in enumerate(["click", "other", "click"])
        )
        gate.set()
        assert (other.result(5), newer.result(5)) == (1, 2)
        with pytest.raises(SupersededError):
            older.result(5)
        failing = worker.submit("click", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            failing.result(5)
    finally:
        worker.close()


def test_steps_of_a_long_job_give_way_to_requests():
    worker, order = Worker(), []

    def steps():
        for n in range(1000):
            order.append(n)
            if n == 5:
                worker.submit("click", lambda: order.append("click"))
            yield

    try:
        worker.work_on(steps())
        wait_until(lambda: 20 in order)
        assert order.index("click") == 6
    finally:
        worker.close()


@pytest.fixture
def clip(tmp_path):
    return write_disc(tmp_path / "clip.mp4", options={"g": "250", "bf": "3"})


def test_what_was_marked_is_saved_at_once_and_found_again(clip):
    with opened(clip) as session:
        session.edit(on_disc(2))
        session.edit({"op": "add_object", "name": "empty"})
        session.edit({"op": "change_object", "object": 1, "name": "disc", "color": "#123456"})
        session.edit({"op": "set_range", "start": 1, "end": 20})
        saved = load_prompts(clip.with_name("clip.prompts.json"))
        assert saved == {"disc": (Prompt(2, ((*disc(2)[:2], 1),)),)}
        before = session.project
    with opened(clip) as session:
        assert session.project == before
        session.undo(-1)  # nothing to take back: it was opened like this
        assert session.project == before


def test_marks_that_were_all_taken_back_open_again(clip):
    with opened(clip) as session:
        session.edit(on_disc(2))
        session.undo(-1)
    with opened(clip) as session:
        assert session.project.prompts == {}


def test_prompts_of_the_command_line_open_in_the_picker(clip):
    save_prompts(
        clip.with_name("clip.prompts.json"),
        {"a b": [Prompt(4, ((3, 3, 1),))], "c": [Prompt(5, box=(1, 1, 9, 9))]},
    )
    with opened(clip) as session:
        assert [one.name for one in session.project.objects] == ["a b", "c"]
        assert session.project.objects[1].prompts[5].box == (1, 1, 9, 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"version": 1, "objects": 3}',
        '{"version": 2, "objects": []}',
        "[]",
        '{"objects": []}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_something_else_is_not_written_over(clip, text):
    path = clip.with_name("clip.prompts.json")
    path.write_text(text)
    with pytest.raises(PromptError, match=r"clip\.prompts\.json"):
        Session(PickerConfig(clip, options=QUICK), folder=clip.parent)
    assert path.read_text() == text


def test_marks_of_a_longer_clip_are_refused(clip):
    save_prompts(clip.with_name("clip.prompts.json"), {"a": [Prompt(24, ((3, 3, 1),))]})
    with pytest.raises(PromptError, match="24 of a, but the clip has 24"):
        Session(PickerConfig(clip, options=QUICK), folder=clip.parent)


def test_the_matte_of_a_click_is_that_of_the_run(clip, tmp_path):
    """And it shows the disc, whose place is known."""
    prompt = Prompt(6, (((*disc(6)[:2], 1)), (5, 5, 0)))
    # In bfloat16 the last bits depend on how many threads compute, and later rounding adds to them.
    options = replace(QUICK, precision="float32")
    with opened(clip, options=options) as session:
        for x, y, label in prompt.points:
            session.edit(on_disc(6, x=x, y=y, label=label))
        shown = gray(session.still(1, 6).result(30).png)
        assert session.still(1, 7) is None
    vidmatte.matte(clip, prompt, alpha=tmp_path / "a.mkv", options=options)
    # What is shown is rounded to 8 bits.
    assert np.abs(shown - alphas(tmp_path / "a.mkv")[6]).max() <= 0.5 / 255 + 1e-4
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    cx, cy, radius = disc(6)
    true = np.hypot(x - cx, y - cy) < radius
    assert ((shown > 0.5) & true).sum() / ((shown > 0.5) | true).sum() > 0.8


def test_a_background_click_alone_is_explained(clip):
    with opened(clip) as session:
        session.edit(on_disc(0, label=0))
        with pytest.raises(PromptError, match="only background is marked"):
            session.still(1, 0).result(30)


def test_marks_on_one_more_frame_only_change_the_frames_nearest_to_it(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=40)
    with opened(clip) as session:
        session.edit(on_disc(0))
        session.show_preview(True, 0)
        assert previewed(session) == 40
        before = [session.preview.alpha(1, frame) for frame in range(40)]
        assert session.preview.confidence() == pytest.approx([90] * 40, abs=15)
        session.edit(on_disc(30))
        # Half-way between 0 and 30 is 15; up to 4 frames on either side are mixed of both.
        assert previewed(session) - 40 == (30 - 15 + 4 - 1) + 10
        after = [session.preview.alpha(1, frame) for frame in range(40)]
        assert before[:12] == after[:12]
        # Taking it back follows the frames of the first reference on from where it was left, or
        # keeps them.
        session.undo(-1)
        previewed(session)
        assert [session.preview.alpha(1, frame) for frame in range(40)] == before


def test_the_preview_keeps_to_in_and_out_point_and_goes_backward(clip):
    with opened(clip) as session:
        session.edit({"op": "set_range", "start": 3, "end": 15})
        session.edit(on_disc(10))
        session.show_preview(True, 10)
        previewed(session)
        known = session.preview.confidence()
        assert [frame for frame, value in enumerate(known) if value >= 0] == list(range(3, 16))
        assert session.preview.alpha(1, 2) is None
        assert gray(session.preview.alpha(1, 3)).max() > 0.5


def test_a_preview_that_fails_says_so_and_clicks_are_answered(clip, monkeypatch, caplog):
    def failing(*_):
        raise RuntimeError("a bug")

    with opened(clip) as session:
        session.edit(on_disc(10))
        monkeypatch.setattr(session.preview, "_keep", failing)
        session.show_preview(True, 10)
        wait_until(lambda: session.preview.error, 120)
        assert session.preview.error == "the preview failed; the terminal says why"
        assert "a bug" in caplog.text
        assert session.still(1, 10).result(60).confidence > 0
        # The next edit plans it anew.
        monkeypatch.undo()
        session.edit(on_disc(12))
        previewed(session)
        assert not session.preview.error


@pytest.mark.parametrize("quality", ["standard", "best"])
def test_the_preview_of_large_frames_sees_what_references_were_made_of(tmp_path, quality):
    size = (1306, 732)
    clip = write_disc(tmp_path / "large.mp4", frames=3, size=size)
    options = vidmatte.MatteOptions(adapt_steps=0, device="cpu", quality=quality)
    with opened(clip, options=options) as session:
        session.edit(on_disc(1, size))
        session.show_preview(True, 1)
        wait_until(lambda: session.preview.progress == (3, 3) or session.preview.error, 120)
        assert not session.preview.error
        assert all(gray(session.preview.alpha(1, frame)).max() > 0.5 for frame in range(3))


@pytest.mark.parametrize("source", ["plates", "plates/shot.%04d.png"])
def test_a_sequence_is_marked_as_a_movie_is(clip, tmp_path, source):
    (tmp_path / "plates").mkdir()
    with vidmatte.open_video(clip) as video:
        for batch in video.batches(1, end=3):
            picture = (batch.rgb[0].numpy().transpose(1, 2, 0)[..., ::-1].clip(0, 1) * 255).astype(
                np.uint8
            )
            cv2.imwrite(str(tmp_path / "plates" / f"shot.{1001 + batch.frames[0]}.png"), picture)
    with opened(tmp_path / source) as session:
        session.edit(on_disc(2))
        assert gray(session.still(1, 2).result(30).png).max() > 0.9
        assert session.store.path.name in ("plates.prompts.json", "shot.prompts.json")
        session.frame_cache.wait()
        assert session.frame_cache.kept == 3


def test_masks_are_kept_beside_the_prompts_while_something_needs_them(clip):
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[30:60, 40:80] = 255
    image = cv2.imencode(".png", mask)[1].tobytes()
    with opened(clip) as session:
        session.load_mask(1, 4, image)
        session.load_mask(1, 5, image)
        session.undo(-1)
    (kept,) = clip.with_name("clip.masks").iterdir()
    assert kept.read_bytes() == image
    (prompt,) = load_prompts(clip.with_name("clip.prompts.json"))["object"]
    assert prompt.mask.resolve() == kept.resolve()


def test_any_frame_is_shown_small_and_whole(tmp_path):
    """Frames carry their number; the clip has one key frame, and B frames that others refer to."""
    clip = write_movie(
        tmp_path / "long.mp4", frames=90, size=(320, 192), options={"g": "250", "bf": "3"}
    )
    with opened(clip) as session:
        for frame in (77, 3, 40, 41, 42, 89, 0):
            for longest in (160, 640, 4096):
                picture = cv2.imdecode(
                    np.frombuffer(session.frame_cache.jpeg(frame, longest), np.uint8),
                    cv2.IMREAD_COLOR,
                )
                assert read_number(picture[..., ::-1].transpose(2, 0, 1) / 255) == frame
        session.frame_cache.wait()
        assert session.frame_cache.kept == 90
        assert session.frame_cache.nearest_cached(50) == 50
        numbers = [frame.index for frame in session.frame_cache.video.proxy_frames(64, start=88)]
        assert numbers == [88, 89]
        assert session.frame_cache.video.keyframe_before(50) == 0


def test_what_is_near_to_the_frame_looked_at_is_read_first(tmp_path):
    clip = write_movie(
        tmp_path / "long.mp4", frames=600, size=(64, 48), options={"g": "150", "sc_threshold": "0"}
    )
    with vidmatte.open_video(clip) as video:
        footage = FrameCache(video)
        order = []
        footage._disk_cache.put = lambda frame, jpeg: order.append(frame)
        footage.jpeg(320, 64)
        footage.prefetch_all(lambda: False)
        footage.wait()
        footage.close()
    assert sorted(order) == list(range(600))
    assert order[0] == 300
    assert order[150] in (150, 450)


def done(session):
    wait_until(lambda: session.runs.last.progress.is_over, 120)
    return session.runs.last.progress


def test_the_command_line_that_is_shown_gives_the_same_alpha(clip, monkeypatch):
    monkeypatch.chdir(clip.parent)
    with opened(clip.relative_to(clip.parent)) as session:
        session.edit(on_disc(0))
        session.edit(on_disc(20))
        session.edit({"op": "set_range", "start": 2, "end": 22})
        session.set_outputs({"outputs": [3, 2]})
        session.set_edge({"smooth": 0.5, "grow": 1.5, "clip_black": 0.05})
        command = shlex.split(session.state()["command"])
        assert command[:4] == ["vidmatte", "clip.mp4", "--prompts", "clip.prompts.json"]
        assert "--overwrite" not in command
        session.start_run()
        with pytest.raises(OptionError, match="under way"):
            session.start_run()
        assert done(session).state == "done"
        first = alphas("clip_alpha.mkv")
        assert len(first) == 21
        shown = session.state()["run"]
        assert [(one["name"], one["kind"]) for one in shown["files"]] == [
            ("clip_matte.webm", "colour"),
            ("clip_alpha.mkv", "alpha"),
        ]
        curve = session.curves()["confidence"]
        assert [frame for frame, value in enumerate(curve) if value >= 0] == list(range(2, 23))
        assert np.abs(gray(session.small_alpha(1, 9)) - first[7]).max() <= 1 / 255
        for result in session.runs.results():
            seen = gray(result.picture(7, 8192))
            alpha = seen[..., 3] if seen.ndim == 3 else seen
            assert np.abs(alpha - first[7]).mean() < 0.02  # VP9 is not lossless
        session.set_outputs({"overwrite": True})
        repeated = shlex.split(session.state()["command"])
        assert repeated == [*command, "--overwrite"]
    answer = CliRunner().invoke(cli, repeated[1:])
    assert answer.exit_code == 0, answer.output
    assert (alphas("clip_alpha.mkv") == first).all()


@pytest.fixture
def quick_runs(monkeypatch):
    monkeypatch.setattr("vidmatte.web.runs.Run", InlineRun)


def marked_twice(session):
    """Two objects: the disc, and the sky in a corner."""
    session.edit(on_disc(0))
    session.edit({"op": "add_object", "name": "sky"})
    session.edit({"op": "set_box", "object": 2, "frame": 0, "box": [0, 0, 30, 20]})


def test_every_file_of_a_run_is_shown_at_full_size_by_object(tmp_path, quick_runs):
    clip = write_disc(tmp_path / "clip.mp4", frames=6)
    with opened(clip) as session:
        marked_twice(session)
        session.edit({"op": "set_range", "start": 2, "end": 4})
        names = [output["path"].rpartition("/")[2] for output in session.state()["outputs"]]
        session.set_outputs({"outputs": list(range(len(names)))})
        session.start_run()
        run = session.state()["run"]
        assert run["state"] == "done", run["error"]
        assert [file["name"] for file in run["files"]] == [
            *(
                f"clip_disc_{kind} + clip_sky_{kind}".replace("disc", "object")
                for kind in ("matte.mov", "matte.webm", "matte.%06d.png")
            ),
            "clip_matte.%06d.exr",
            *(
                f"clip_object_{kind} + clip_sky_{kind}"
                for kind in ("alpha.mov", "alpha.mkv", "alpha.%06d.png", "alpha.mp4")
            ),
        ]
        x, y, _ = disc(3)
        exact = {}
        for file in reversed(run["files"]):
            assert [part["object"] for part in file["parts"]] == [1, 2]
            for part in file["parts"]:
                picture = gray(session.runs.results()[part["index"]].picture(1, 8192))
                alpha = picture[..., 3] if file["kind"] == "colour" else picture
                assert alpha.shape == SIZE[::-1]
                # All files of a run show the same matte, but for what their codecs lose.
                reference = exact.setdefault(part["object"], alpha)
                assert np.abs(alpha - reference).mean() < 0.01, file["name"]
                if file["kind"] == "colour" and part["object"] == 1:
                    blue, green, red = picture[int(y), int(x), :3] * 255
                    assert max(abs(red - 230), abs(green - 120), abs(blue - 30)) < 12, file["name"]
        assert exact[1][int(y), int(x)] > 0.9
        assert exact[2][int(y), int(x)] < 0.1
        # Small pictures to play, of the frames that were written.
        assert gray(session.proxy(1, 3)).shape == SIZE[::-1]
        assert session.proxy(1, 3, is_color=True)[:2] == b"\xff\xd8"
        assert session.proxy(1, 0) is None
        with pytest.raises(ReadError, match="does not exist"):
            session.runs.results()[0].picture(3, 8192)


def test_the_run_before_is_kept_to_be_compared(tmp_path, quick_runs):
    clip = write_disc(tmp_path / "clip.mp4", frames=3)
    with opened(clip) as session:
        session.edit(on_disc(0))
        session.set_outputs({"outputs": [3]})
        session.start_run()
        assert not session.state()["run"]["has_before"]
        first = gray(session.proxy(1, 1))
        session.set_edge({"grow": 5})
        # Until the next run, the edge is shown on top of what was written.
        assert gray(session.proxy(1, 1)).sum() > first.sum() + 50
        full = gray(session.runs.results()[0].picture(1, 8192, session.edge_over()))
        session.set_outputs({"overwrite": True})
        session.start_run()
        assert session.state()["run"]["has_before"]
        assert np.array_equal(gray(session.proxy(1, 1, is_before=True)), first)
        written = gray(session.runs.results()[0].picture(1, 8192, session.edge_over()))
        assert np.abs(written - full).max() <= 2 / 255


def test_the_edge_acts_on_the_still_the_preview_and_the_command_line(clip):
    with opened(clip) as session:
        session.edit(on_disc(0))
        still = session.still(1, 0).result()
        plain = gray(session.finished_still(still))
        session.show_preview(True, 0)
        previewed(session)
        small = gray(session.small_alpha(1, 9))
        command = session.state()["command"]
        session.set_edge({"grow": 4.5, "invert": True, "despill": "green"})
        state = session.state()
        assert state["edge"]["grow"] == 4.5
        for option in ("--grow 4.5", "--invert", "--despill green,1"):
            assert option in state["command"]
        expected = 1 - grow(plain.astype(np.float32), 4.5)
        assert np.abs(gray(session.finished_still(still)) - expected).max() < 0.02
        expected = 1 - grow(small.astype(np.float32), 4.5)
        assert np.abs(gray(session.small_alpha(1, 9)) - expected).max() < 0.02
        session.set_edge(asdict(Edge()))
        assert session.state()["command"] == command
        assert np.array_equal(gray(session.small_alpha(1, 9)), small)
        # Smoothing draws a frame towards its neighbours; a frame without any stays.
        session.set_edge({"smooth": 1.0})
        assert "--smooth" in session.state()["command"]
        assert gray(session.small_alpha(1, 9)).shape == small.shape


def test_the_edge_of_a_small_picture_is_that_of_the_frame():
    alpha = np.zeros((200, 200), np.float32)
    alpha[60:140, 60:140] = 1
    alpha[20:24, 20:24] = 1
    edge = Edge(grow=8, remove_dots=20)
    whole = edge.finished(alpha, 200)
    half = edge.finished(np.ascontiguousarray(alpha[::2, ::2]), 200)
    assert whole[22, 22] == half[11, 11] == 0
    assert abs(whole.sum() / 4 - half.sum()) < 0.03 * half.sum()


def test_marks_are_copied_along_the_motion(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=24, size=(320, 180))
    size = 320, 180
    with opened(clip) as session:
        x, y, radius = disc(2, size)
        session.edit(on_disc(2, size))
        box = [x - radius, y - radius, x + radius, y + radius]
        session.edit({"op": "set_box", "object": 1, "frame": 2, "box": box})
        stroke = {"points": [[x - 8, y], [x + 8, y]], "width": 6}
        session.edit({"op": "add_stroke", "object": 1, "frame": 2} | stroke)
        for target in (12, 0):
            session.copy_marks(1, 2, target)
            moved = session.project.objects[0].prompts[target]
            shift = disc(target, size)[0] - x
            assert np.abs(np.subtract(moved.points[0][:2], (x + shift, y))).max() < 3
            assert np.abs(np.subtract(moved.box, np.add(box, (shift, 0, shift, 0)))).max() < 8
            assert np.abs(np.subtract(moved.strokes[0].points[0], (x - 8 + shift, y))).max() < 3
        with pytest.raises(PromptError, match="no marks"):
            session.copy_marks(1, 5, 6)
        assert session.undo(-1) == (1, 0)
        assert 0 not in session.project.objects[0].prompts


def test_undo_and_redo_tell_what_they_changed(clip):
    with opened(clip) as session:
        session.edit(on_disc(3))
        session.edit(on_disc(9))
        session.edit({"op": "set_range", "start": 2, "end": 9})
        assert session.undo(-1) is None  # of the in point
        assert session.undo(-1) == (1, 9)
        assert session.undo(-1) == (1, 3)
        assert session.undo(1) == (1, 3)


def test_the_opposite_click_beside_a_mark_takes_its_place():
    project = edited(Project(), on_disc(0), BOUNDS)
    x, y, _ = disc(0)
    near = {"x": x + 4, "y": y, "label": 0}
    assert len(edited(project, on_disc(0, **near), BOUNDS).prompts["object"][0].points) == 2
    (point,) = edited(project, on_disc(0, **near, near=5), BOUNDS).prompts["object"][0].points
    assert point == (x + 4, y, 0)
    again = edited(project, on_disc(0, x=x + 4, near=5), BOUNDS)
    assert len(again.prompts["object"][0].points) == 2  # the same label only adds


@pytest.mark.parametrize(
    ("way", "known"), [("forward", range(10, 24)), ("backward", range(10)), ("one", range(10, 16))]
)
def test_a_preview_goes_the_way_that_was_asked_for(clip, way, known):
    with opened(clip) as session:
        session.edit(on_disc(10))
        session.show_preview(True, 15 if way != "backward" else 4, way)
        previewed(session)
        curve = session.curves()["confidence"]
        assert [frame for frame, value in enumerate(curve) if value >= 0] == list(known)
        assert session.curves()["objects"] == {1: curve}


def test_a_preview_grows_on_both_sides_of_the_frame_looked_at(clip, monkeypatch):
    order = []
    keep = Preview._keep

    def kept(self, run, frame, coarse):
        order.append(frame)
        keep(self, run, frame, coarse)

    monkeypatch.setattr(Preview, "_keep", kept)
    with opened(clip) as session:
        session.edit(on_disc(12))
        session.show_preview(True, 12)
        previewed(session)
        assert {9, 10, 11, 12, 13, 14} <= set(order[:8])


def test_space_of_what_is_not_needed_any_more_is_given_back(monkeypatch):
    monkeypatch.setattr("vidmatte.web.frame_cache._LOOSE_BYTES", 1000)
    cache = DiskCache(2000)
    for number in range(100):
        cache.put((number % 4, 0), bytes([number]) * 300)
    assert cache.bytes <= 2 * 1200 + 300
    assert cache.get((3, 0)) == bytes([99]) * 300
    cache.put((9, 0), bytes(300))
    with pytest.raises(OSError, match="used up"):
        cache.put((9, 1), bytes(600))
    cache.drop(lambda key: key[0] == 9)
    assert len(cache) == 4
    assert cache.get((9, 0)) is None
    assert cache.get((2, 0)) == bytes([98]) * 300
    cache.close()


def test_files_get_the_name_and_folder_of_the_page_and_those_that_exist_are_marked(
    clip, quick_runs, monkeypatch
):
    monkeypatch.chdir(clip.parent)
    (clip.parent / "shots").mkdir()
    (clip.parent / "shots" / "take_clip_alpha.000007.png").write_bytes(b"")
    (clip.parent / "shots" / "take_clip_matte.mov").write_bytes(b"")
    with opened(clip) as session:
        session.edit(on_disc(0))
        session.edit({"op": "set_range", "start": 0, "end": 1})
        session.set_outputs({"folder": "shots", "name": "take_{stem}", "outputs": [3]})
        state = session.state()
        assert [output["path"] for output in state["outputs"] if output["exists"]] == [
            "shots/take_clip_matte.mov",
            "shots/take_clip_alpha.%06d.png",
        ]
        assert "--alpha shots/take_clip_alpha.mkv" in state["command"]
        assert state["space"].startswith("2 frames, 0.1 s; ")
        session.start_run()
        assert session.state()["run"]["state"] == "done"
        assert (clip.parent / "shots" / "take_clip_alpha.mkv").exists()
        session.set_outputs({"report": True, "overwrite": True})
        assert "--report shots/take_clip_report" in session.state()["command"]
        session.start_run()
        assert session.state()["run"]["report"] == "shots/take_clip_report/report.html"
        assert (clip.parent / "shots" / "take_clip_report" / "report.html").exists()


def test_a_still_and_a_mask_are_saved(clip):
    with opened(clip) as session:
        session.edit(on_disc(0))
        still = session.still(1, 0).result()
        name, png = session.picture_of("still", 1, 0, still)
        assert name == "clip_object_still_000000.png"
        picture = gray(png)
        x, y, _ = disc(0)
        assert picture.shape == (*SIZE[::-1], 4)
        assert np.abs(picture[int(y), int(x)] * 255 - (30, 120, 230, 255)).max() < 12
        assert picture[2, 2, 3] == 0
        name, png = session.picture_of("mask", 1, 0, still)
        assert name == "clip_object_mask_000000.png"
        session.edit({"op": "clear_frame", "object": 1, "frame": 0})
        session.load_mask(1, 0, png)
        again = gray(session.still(1, 0).result().png)
        assert np.abs(again - gray(png)).mean() < 0.02


def test_timecodes_and_file_numbers_are_those_of_the_clip(tmp_path):
    clip = write_disc(tmp_path / "clip.mov", frames=4, metadata={"timecode": "01:00:00:23"})
    with opened(clip) as session:
        assert session.timecodes(0, 3) == ["01:00:00:23", "01:00:00:24", "01:00:01:00"]
        assert session.clip()["timecode"] == "01:00:00:23"
    folder = tmp_path / "shot"
    folder.mkdir()
    for number in range(1001, 1004):
        cv2.imwrite(str(folder / f"shot.{number}.png"), np.full((64, 64, 3), 90, np.uint8))
    with opened(folder) as session:
        assert session.clip()["first_number"] == 1001
        assert session.timecodes(0, 2) == [None, None]


def test_the_sound_of_a_clip_can_be_played(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=24, sound=True)
    with opened(clip) as session:
        assert session.clip()["has_sound"]
        path = session.sound.file()
        with av.open(str(path)) as container:
            samples = sum(frame.samples for frame in container.decode(audio=0))
        assert abs(samples / 48_000 - 1) < 0.1
        assert session.sound.file() == path
    assert not path.exists()


def test_tips_that_were_read_stay_away(tmp_path, clip):
    file = tmp_path / "settings" / "picker.json"
    with opened(clip, tips_file=file) as session:
        assert session.state()["tips"] == []
        session.tips.add("box")
        session.tips.add("box")
        session.tips.add("../../x")
    with opened(clip, tips_file=file) as session:
        assert session.state()["tips"] == ["box"]
    file.write_text("[[[")
    assert Tips(file).read == ()


def test_a_clip_of_the_folder_is_chosen_in_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_disc(tmp_path / "clip.mp4", frames=4)
    (tmp_path / "broken.mov").write_bytes(b"no movie")
    (tmp_path / "notes.txt").write_text("")
    addresses, found = [], []

    def visit(address):
        addresses.append(address)
        threading.Thread(target=lambda: found.append(choose(address)), daemon=True).start()

    def choose(address):
        server = SimpleNamespace(address=address, port=int(address.split(":")[2].split("/")[0]))
        browser = Browser(server)
        assert browser.visit() == 200
        listed = [clip["name"] for clip in browser.get("/api/choices-of-clips")["clips"]]
        assert browser.post("/api/choose", {"name": "../secret.mp4"})[0] == 409
        browser.post("/api/choose", {"name": "broken.mov"})
        wait_until(lambda: browser.get("/api/choices-of-clips")["error"])
        browser.post("/api/choose", {"name": "clip.mp4"})
        wait_until(lambda: browser.send("GET", "/api/clip")[0] == 200)
        frames = browser.get("/api/clip")["frames"]
        browser.post("/api/end")
        return listed, frames

    assert pick(PickerConfig(None, options=QUICK), opens_browser=False, on_address=visit) is None
    assert found == [(["broken.mov", "clip.mp4"], 4)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_enter_in_the_terminal_is_noticed_and_nothing_else_waits(monkeypatch):
    control, terminal = pty.openpty()
    with os.fdopen(terminal, "r", closefd=True) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        monkeypatch.setattr("os.tcgetpgrp", lambda number: os.getpgrp())
        assert not was_enter_pressed()
        os.write(control, b"\n")
        wait_until(was_enter_pressed, 5)
        assert not was_enter_pressed()
    os.close(control)
    assert not was_enter_pressed()


def test_files_that_exist_are_not_replaced_without_being_asked(clip):
    clip.with_name("clip_matte.mov").write_text("mine")
    with opened(clip) as session:
        session.edit(on_disc(0))
        session.start_run()
        assert done(session).state == "failed"
        assert "exists already" in session.state()["run"]["error"]
    assert clip.with_name("clip_matte.mov").read_text() == "mine"


def test_a_run_without_marks_or_outputs_is_refused(clip):
    with opened(clip) as session:
        with pytest.raises(OptionError, match="nothing is marked"):
            session.start_run()
        session.edit(on_disc(0))
        session.set_outputs({"outputs": []})
        with pytest.raises(OptionError, match="no output is chosen"):
            session.start_run()
        assert session.state()["command"] == ""


def test_several_objects_get_a_file_each(clip):
    with opened(clip) as session:
        session.edit(on_disc(0))
        session.edit({"op": "add_object", "name": "corner"})
        session.edit({"op": "add_point", "object": 2, "frame": 0, "x": 5, "y": 5})
        assert [output["path"].rpartition("/")[2] for output in session.state()["outputs"]][:3] == [
            "clip_{object}_matte.mov",
            "clip_{object}_alpha.mov",
            "clip_{object}_matte.webm",
        ]


def test_a_cancelled_run_leaves_nothing(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=250)
    with opened(clip) as session:
        session.edit(on_disc(0))
        session.start_run()
        run = session.runs.last
        wait_until(lambda: run.progress.state == "matting" and run.progress.now.done > 5, 120)
        assert any(path.name.endswith(".partial") for path in tmp_path.iterdir())
        session.runs.cancel()
        assert done(session).state == "cancelled"
        assert session.runs.summary is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.prompts.json"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
def test_a_server_that_is_killed_leaves_the_marks_and_no_half_file(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=250)
    words = [sys.executable, "-m", "vidmatte", "pick", str(clip), "--no-browser"]
    here = os.environ | {"PYTHONPATH": str(Path(vidmatte.__file__).parents[1])}
    with subprocess.Popen(
        words, cwd=tmp_path, env=here, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stderr.readline().split()[-1]
        remote = type(
            "Remote", (), {"address": address, "port": int(address.split(":")[2].split("/")[0])}
        )
        browser = Browser(remote)
        assert browser.visit() == 200
        assert browser.post("/api/edit", on_disc(3))[0] == 200
        assert browser.post("/api/choices", {"adapt_steps": 0})[0] == 200
        assert browser.post("/api/run")[0] == 200
        wait_until(lambda: browser.get("/api/state")["run"]["done"] > 5, 120)
        process.send_signal(signal.SIGKILL)
    wait_until(
        lambda: (
            sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.prompts.json"]
        ),
        60,
    )
    with opened(clip) as session:
        assert session.project.prompts["object"][0].frame == 3


def test_points_without_a_value_open_the_picker(clip, monkeypatch):
    asked = {}

    def pick(opening, *, host, port, opens_browser, on_address):
        on_address("http://127.0.0.1:1/?token=x")
        asked["opening"] = opening

    monkeypatch.setattr("vidmatte.web.server.pick", pick)
    words = [
        str(clip),
        "--ref-frame",
        "7",
        "--points",
        "-o",
        "a.mov",
        "--grow",
        "-1",
        "--start",
        "2",
    ]
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 1  # nothing was run
    assert "The picker is at http://127.0.0.1:1/?token=x" in answer.output
    opening = asked["opening"]
    assert (opening.source, opening.frame, opening.outputs) == (clip, "7", ("a.mov",))
    assert (opening.options.finish.grow, opening.options.start) == (-1, "2")


def test_the_sample_is_opened_on_request_and_without_a_clip_the_page_asks(tmp_path, monkeypatch):
    opened_with = []
    monkeypatch.setattr("vidmatte.web.server.pick", lambda config, **_: opened_with.append(config))
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["pick", "--sample"]).exit_code == 0
    assert CliRunner().invoke(cli, ["pick"]).exit_code == 0
    sample, none = opened_with
    assert sample.source == Path("vidmatte-demo/portrait.mp4")
    assert sample.source.stat().st_size > 100_000
    assert sample.tips_file.name == "picker.json"
    assert none.source is None
    refused = CliRunner().invoke(cli, ["pick", "clip.mp4", "--sample"])
    assert refused.exit_code != 0
    assert "leave one of them out" in refused.output


@pytest.mark.parametrize(
    "words",
    [
        ["--mask", "m.png"],
        ["--ref-frame", "1", "--ref-frame", "2"],
        ["--images"],
        ["--reference", "r.png"],
    ],
)
def test_other_marks_beside_the_picker_are_refused(clip, words):
    answer = CliRunner().invoke(cli, [str(clip), "--points", *words])
    assert answer.exit_code == 2
    assert "picker" in answer.output


@pytest.mark.parametrize(
    ("streams", "variables", "shows"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (True, {}, False),
        (True, {"DISPLAY": ":10", "SSH_CONNECTION": "10.0.0.1 22"}, False),
        (False, {"DISPLAY": ":0"}, False),
    ],
)
def test_a_person_before_a_display_is_recognised(monkeypatch, streams, variables, shows):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{name}", SimpleNamespace(isatty=lambda: streams))
    assert has_display() is shows


@pytest.mark.parametrize(
    ("arguments", "opens"),
    [
        ([], True),
        (["-o", "a.mov", "--smooth"], True),
        (["--json"], False),
        (["--quiet"], False),
        (["--report", "r"], False),
        (["--model", "none", "--matte", "missing.png"], False),
    ],
)
def test_a_clip_without_marks_opens_the_picker_where_there_is_a_display(
    clip, tmp_path, monkeypatch, arguments, opens
):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("vidmatte.cli.matte.has_display", lambda: True)
    monkeypatch.setattr("vidmatte.cli.pick.open_picker", lambda clip, **given: asked.append(clip))
    answer = CliRunner().invoke(cli, [str(clip), *arguments])
    assert answer.exit_code != 0  # nothing was run
    assert asked == ([clip] if opens else [])


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--images", None, "vidmatte pick IMAGE"),
        ("--reference", "other.mp4", "--reference OTHER --prompts OTHER.prompts.json"),
        ("--report", "page", "tick Report in the page"),
        ("--trimaps", "t.png", "trimaps need no marks"),
        ("--extent", "part", "choose the answer in the page"),
    ],
)
def test_what_the_page_does_not_do_is_told_with_another_way(clip, option, value, hint):
    words = [option] if value is None else [option, value]
    answer = CliRunner().invoke(cli, [str(clip), "--points", *words])
    assert answer.exit_code == 2
    assert len(answer.output.strip().splitlines()) == 1
    assert f"{option} was given" in answer.output
    assert hint in answer.output


def test_a_marked_image_shows_the_command_for_all_of_its_folder(tmp_path, monkeypatch):
    """The command is run as it is shown: each image gets a matte of its own disc."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, x in (("a", 50), ("b", 80), ("c", 110)):
        picture = np.full((96, 160, 3), (160, 90, 40), np.uint8)
        cv2.circle(picture, (x, 48), 26, (30, 120, 230), -1)
        cv2.imwrite(f"photos/{name}.png", picture)
    image = Path("photos/a.png")
    with opened(image, options=QUICK) as session:
        assert session.state()["set_command"] == ""  # nothing is marked
        for x, y, label in ((50, 48, 1), (10, 10, 0)):
            edit = {"op": "add_point", "object": 1, "frame": 0, "x": x, "y": y, "label": label}
            session.edit(edit)
        command = session.state()["set_command"]
    assert "--images --reference photos/a.png --prompts photos/a.prompts.json" in command
    answer = CliRunner().invoke(cli, shlex.split(command)[1:])
    assert answer.exit_code == 0, answer.output
    for name, x in (("a", 50), ("b", 80), ("c", 110)):
        alpha = cv2.imread(f"photos/a_set/{name}.png", cv2.IMREAD_UNCHANGED)[..., 3]
        assert alpha[48, x] > 60000
        assert alpha[10, 10] < 6000


def test_a_clip_has_no_command_for_a_set(clip):
    with opened(clip) as session:
        session.edit(on_disc(0))
        assert session.state()["set_command"] is None


def test_a_clip_without_marks_says_how_to_mark_where_there_is_no_display(clip):
    answer = CliRunner().invoke(cli, [str(clip)])
    assert answer.exit_code == 2
    assert f"vidmatte pick {clip}" in answer.output
    assert "--points" in answer.output


def test_a_port_that_is_taken_is_explained(clip):
    with (
        opened(clip) as session,
        PickerServer(session) as server,
        pytest.raises(OptionError, match="cannot listen"),
    ):
        PickerServer(session, port=server.port)


def test_an_edit_is_tried_without_being_made(clip):
    with opened(clip) as session, PickerServer(session) as server:
        browser = Browser(server)
        browser.visit()
        browser.post("/api/edit", on_disc(0))
        before = browser.send("GET", "/api/alpha/1/0")[2]
        saved = session.store.path.read_bytes()
        x, y, _ = disc(0)
        edit = {"op": "move_point", "object": 1, "frame": 0, "index": 0, "x": x + 4, "y": y}

        def tried(asked):
            return browser.send("POST", "/api/try", json.dumps(asked).encode())

        status, headers, body = tried(edit)
        assert (status, headers["content-type"]) == (200, "image/png")
        assert "x-answer" in headers
        assert session.project.prompts["object"][0].points == ((x, y, 1),)
        assert session.store.path.read_bytes() == saved
        assert browser.send("GET", "/api/alpha/1/0")[2] == before
        # The same matte once the edit is made.
        browser.post("/api/edit", edit)
        assert browser.send("GET", "/api/alpha/1/0")[2] == body
        # No marks left, and background alone, make no matte: that is no error yet.
        gone = {"op": "remove_prompt", "object": 1, "frame": 0, "kind": "points", "index": 0}
        assert tried(gone)[0] == 204
        browser.post("/api/edit", on_disc(3, label=0))
        alone = {"op": "move_point", "object": 1, "frame": 3, "index": 0, "x": 2, "y": 2}
        assert tried(alone)[0] == 204
        assert tried({**edit, "index": 7})[0] == 422
        assert tried({**edit, "frame": 10**6})[0] == 422


def test_the_matte_of_changed_marks_does_not_depend_on_what_was_there_before(clip):
    """Moved marks and other answers begin from the image that is encoded already."""
    x, y, radius = disc(0)
    edits = (
        on_disc(0),
        {"op": "set_extent", "object": 1, "frame": 0, "extent": "group"},
        {"op": "move_point", "object": 1, "frame": 0, "index": 0, "x": x + 3, "y": y - 2},
        on_disc(0, x=x + radius / 2),
        {"op": "remove_prompt", "object": 1, "frame": 0, "kind": "points", "index": 0},
    )
    with opened(clip) as session:
        for edit in edits:
            session.edit(edit)
            still = session.still(1, 0).result(60)
            prompt = session.project.objects[0].prompts[0]
            assert still == Stills(session._stills._model, session.frame_cache).still(prompt)


def test_a_frame_is_made_small_once_for_all_of_its_marks(clip, monkeypatch):
    shrunk = []
    shrink = WindowModel.shrink
    monkeypatch.setattr(
        WindowModel, "shrink", lambda model, rgb: shrunk.append(1) or shrink(model, rgb)
    )
    with opened(clip) as session:
        for count in range(3):
            session.edit(on_disc(0, x=disc(0)[0] + count))
            session.still(1, 0).result(60)
            assert len(shrunk) == 2  # the frame and the one beside it
        session.edit(on_disc(5))
        session.still(1, 5).result(60)
        assert len(shrunk) == 4


def test_the_page_gets_frames_mattes_and_the_curve(clip):
    with opened(clip) as session, PickerServer(session) as server:
        browser = Browser(server)
        assert browser.visit() == 200
        assert browser.get("/api/clip")["frames"] == 24
        assert browser.send("GET", "/api/alpha/1/0")[0] == 204
        # The page may ask for an object that it has not yet heard was removed.
        assert browser.send("GET", "/api/alpha/9/0")[0] == 204
        status, state = browser.post("/api/edit", on_disc(0))
        assert status == 200
        assert state["can_undo"]
        status, headers, body = browser.send("GET", "/api/alpha/1/0")
        assert (status, headers["content-type"]) == (200, "image/png")
        assert 0 < float(headers["x-confidence"]) <= 1
        answers = headers["x-answers"].split(",")
        assert "object" in answers
        assert headers["x-answer"] == "object"
        assert set(answers) <= {"part", "object", "group"}
        assert gray(body).shape == SIZE[::-1]
        assert browser.send("GET", "/api/frame/3?longest=15")[0] == 400
        status, headers, body = browser.send("GET", "/api/frame/3?longest=80")
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        assert browser.post("/api/preview", {"on": True, "frame": 0})[0] == 200
        previewed(session)
        assert min(browser.get("/api/curve")["confidence"]) > 0
        assert browser.send("GET", "/api/alpha/1/9")[0] == 200
        assert json.dumps(browser.get("/api/state"))
        assert browser.post("/api/end")[0] == 204
        assert session.ended.is_set()
