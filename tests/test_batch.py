"""Many shots in one command: what a manifest says, what is refused and skipped.

One bad shot does not stop the others.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

from vidmatte.batch.check import ShotPlan, check_shots, space_needed
from vidmatte.batch.cluster import own_facts, refuse_other
from vidmatte.batch.engine import TaskDone, WorkerLost
from vidmatte.batch.manifest import load_manifest
from vidmatte.batch.results import Results
from vidmatte.batch.run import BatchRun
from vidmatte.batch.task import Outcome, Progress
from vidmatte.batch.worker import Worker
from vidmatte.cli import cli
from vidmatte.errors import OptionError, VidmatteError
from vidmatte.write import PlacementError

FRAMES = 7


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips of 7 frames of 32x32, and a matte for all of them."""
    folder = tmp_path_factory.mktemp("clips")
    for name in "abc":
        write_movie(folder / f"{name}.mp4", frames=FRAMES, size=(32, 32))
    matte = np.zeros((32, 32), np.uint8)
    cv2.circle(matte, (16, 16), 8, 255, -1, cv2.LINE_AA)
    cv2.imwrite(str(folder / "matte.png"), matte)
    return folder


@pytest.fixture
def job(clips, tmp_path):
    """A folder with a manifest of the three clips; their mattes are given, so no model runs."""
    for path in clips.iterdir():
        os.link(path, tmp_path / path.name)
    write_manifest(tmp_path, "abc")
    return tmp_path


def write_manifest(folder, names, **defaults):
    defaults = {
        "model": "none",
        "matte": "matte.png",
        "alpha": ["out/{shot}.mkv"],
        "segment_frames": 3,
        **defaults,
    }
    given = {key: value for key, value in defaults.items() if value is not None}
    lines = ["[defaults]", *(f"{key} = {json.dumps(value)}" for key, value in given.items())]
    for name in names:
        lines += ["[[shots]]", f'input = "{name}.mp4"']
    (folder / "shots.toml").write_text("\n".join(lines))
    return folder / "shots.toml"


class OneWorker:
    """An engine that does each task at once, in this process."""

    size = 1
    starting = 0
    machines = ("",)

    def __init__(self, lose=()):
        self._worker, self._events, self._on_worker_lost = Worker(), [], list(lose)

    @property
    def running(self):
        return len(self._events)

    @property
    def idle_machines(self):
        return [] if self._events else [""]

    def submit(self, task, machines):
        if task.unit in self._on_worker_lost:
            self._on_worker_lost.remove(task.unit)
            self._events.append(WorkerLost(task, "its worker was killed by signal 9"))
        else:
            self._events.append(TaskDone(task, self._worker.run(task)))

    def poll(self, seconds):
        events, self._events = self._events, []
        return events


def run(manifest, lose=(), retries=0, **choices):
    results = Results(manifest.with_suffix(".results.jsonl"))
    batch = BatchRun(
        load_manifest(manifest, **choices), OneWorker(lose), results, threads=1, retries=retries
    )
    return {each.name: each for each in batch.run()}


def dry_run(job):
    shots = load_manifest(job / "shots.toml")
    return {plan.name: plan for plan in check_shots(shots, Results(job / "shots.results.jsonl"))}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_kinds_of_manifests_say_the_same(job):
    shots = load_manifest(job / "shots.toml")
    (job / "shots.json").write_text(
        json.dumps(
            {
                "defaults": {
                    "model": "none",
                    "matte": "matte.png",
                    "alpha": "out/{shot}.mkv",
                    "segment-frames": 3,
                },
                "shots": [{"input": f"{name}.mp4"} for name in "abc"],
            }
        )
    )
    rows = [f"{name}.mp4,none,matte.png,out/{{shot}}.mkv,3" for name in "abc"]
    (job / "shots.csv").write_text("\n".join(["input,model,matte,alpha,segment_frames", *rows]))
    assert [shot.name for shot in shots] == ["a", "b", "c"]
    assert [spec.path for spec in shots[1].request.outputs.specs] == [job / "out/b.mkv"]
    assert load_manifest(job / "shots.json") == shots
    assert load_manifest(job / "shots.csv") == shots


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_spreadsheets_of_any_kind_say_the_same(job, delimiter, encoding):
    header = ["input", "model", "matte", "alpha", "segment_frames"]
    rows = [[f"{name}.mp4", "none", "matte.png", "out/{shot}.mkv", "3"] for name in "abc"]
    text = "\r\n".join(delimiter.join(row) for row in [header, *rows])
    bom = "\ufeff" if encoding == "utf-16-be" else ""
    (job / "shots.csv").write_bytes((bom + text).encode(encoding))
    assert load_manifest(job / "shots.csv") == load_manifest(job / "shots.toml")


def test_quoted_values_of_a_spreadsheet_may_hold_delimiters_and_line_breaks(job):
    (job / "shots.csv").write_text('input;points;name\na.mp4;"5,5\n6,6";"x, y"\n')
    (shot,) = load_manifest(job / "shots.csv")
    assert shot.name == "x, y"
    assert len(shot.request.prompts.objects[""][0].points) == 2


def test_a_folder_has_a_shot_for_each_clip_with_prompts(job):
    prompts = {
        "version": 1,
        "objects": [{"name": "x", "prompts": [{"frame": 0, "points": [[5, 5, 1]]}]}],
    }
    for name in "ac":
        (job / f"{name}.prompts.json").write_text(json.dumps(prompts))
    shots = load_manifest(job, changes={"smooth": "0.5"})
    assert [shot.name for shot in shots] == ["a", "c"]
    specs = shots[0].request.outputs.specs
    assert [spec.path for spec in specs] == [job / "a_matte.mov", job / "a_alpha.mov"]
    assert [spec.alpha_only for spec in specs] == [False, True]
    assert shots[0].request.prompts.objects["x"][0].points == ((5.0, 5.0, 1),)
    assert shots[0].request.options.smooth == 0.5


def test_one_reference_serves_many_clips(job):
    text = '[defaults]\nreference = "matte.png"\nbox = "8,8,24,24"\n'
    (job / "shots.toml").write_text(
        text + "".join(f'[[shots]]\ninput = "{name}.mp4"\n' for name in "abc")
    )
    shots = load_manifest(job / "shots.toml")
    assert {shot.request.prompts.reference for shot in shots} == {job / "matte.png"}
    assert {shot.request.prompts.objects[""][0].box for shot in shots} == {(8.0, 8.0, 24.0, 24.0)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[[shots]]\ninput = "a.mp4"\npoint = "3,3"',
            r"shot 1: the key 'point' is not known; did you mean 'points'\?",
        ),
        ('[shot]\ninput = "a.mp4"', r"the key 'shot' at its top"),
        ('[[shots]]\npoints = "3,3"', r"shot 1 has no input"),
        ('[[shots]]\ninput = "a.mp4"', r"shot a: nothing is marked"),
        (
            '[[shots]]\ninput = "a.mp4"\npoints = "3,3"\nsmooth = "much"',
            r"smooth is 'much', which is not a number",
        ),
        (
            '[[shots]]\ninput = "a.mp4"\npoints = "3,3"\nsmooth = 7',
            r"shot a: smooth 7 is not valid",
        ),
        (
            '[[shots]]\nname = "x/y"\ninput = "a.mp4"\npoints = "3,3"',
            r"its name becomes part of file names",
        ),
        (
            '[[shots]]\ninput = "a.mp4"\npoints = "3,3"\nalpha = "a.xyz"',
            r"shot a: .*a.xyz.* cannot be written",
        ),
        ('[[shots]]\ninput = "a.mp4"\npoints = "3,3"\n' * 2, r"two shots are named 'a'"),
        (
            '[defaults]\npoints = "3,3"\nalpha = "m.mkv"\n'
            '[[shots]]\ninput = "a.mp4"\n[[shots]]\ninput = "b.mp4"',
            r"shots 'a' and 'b' would both write .*m.mkv; put {shot} into the path",
        ),
        ("[[shots]]\ninput = ", r"is not TOML"),
        ("[defaults]\nsmooth = 1", r"lists no shots"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path, text, said):
    (tmp_path / "shots.toml").write_text(text)
    with pytest.raises(OptionError, match=said):
        load_manifest(tmp_path / "shots.toml")


@pytest.mark.parametrize("key", ["input", "alpha", "matte"])
def test_paths_outside_of_the_root_are_refused(job, key):
    assert len(load_manifest(job / "shots.toml", root=job)) == 3
    manifest = write_manifest(job, "a", **({key: "../away.mkv"} if key != "input" else {}))
    if key == "input":
        manifest.write_text(manifest.read_text().replace('"a.mp4"', '"../away.mkv"'))
    with pytest.raises(OptionError, match=r"shot a(way)?: .*away.mkv is outside of --root"):
        load_manifest(manifest, root=job)


@pytest.mark.parametrize(
    "keys",
    [
        {"alpha": "file:///tmp/away.mkv"},
        {"alpha": "local:///tmp/away.mkv"},
        {"alpha": "file://~/away.mkv"},
        {"alpha": "simplecache::file:///tmp/away.mkv"},
        {"alpha": "store://mattes/away.mkv"},
        {"model": "../away.safetensors", "matte": None},
        {"model": "/tmp/away.safetensors", "matte": None},
        {"prompts": "../away.json", "matte": None, "model": None},
        {"outside_mask": "../away.png"},
        {"report": "../away"},
        {"weights": "../away.safetensors"},
    ],
)
def test_the_root_cannot_be_left_by_addresses_or_any_path(job, keys, monkeypatch):
    pytest.importorskip("fsspec")
    # Addresses that are relative to anything are relative to the working directory.
    monkeypatch.chdir(job)
    manifest = write_manifest(job, "a", box="1,1,9,9", **keys)
    with pytest.raises(OptionError, match="--root"):
        load_manifest(manifest, root=job)


def test_addresses_of_files_inside_of_the_root_are_allowed(job):
    pytest.importorskip("fsspec")
    manifest = write_manifest(job, "a", alpha=f"file://{job}/sent/a.mkv")
    assert len(load_manifest(manifest, root=job)) == 1


def test_a_bad_shot_stops_nothing_and_is_named(job):
    (job / "b.mp4").unlink()
    (job / "b.mp4").write_bytes(b"no movie")
    ended = run(job / "shots.toml")
    assert {name: each.state for name, each in ended.items()} == {
        "a": "done",
        "b": "failed",
        "c": "done",
    }
    assert "b.mp4" in ended["b"].reason
    assert sorted(path.name for path in (job / "out").iterdir()) == ["a.mkv", "c.mkv"]
    lines = [json.loads(line) for line in (job / "shots.results.jsonl").read_text().splitlines()]
    states = {line["shot"]: line["state"] for line in lines}
    assert states == {"a": "done", "b": "failed", "c": "done"}


def test_what_is_up_to_date_is_skipped_and_what_changed_is_not(job):
    assert {each.state for each in run(job / "shots.toml").values()} == {"done"}
    before = contents(job / "out")
    assert {each.state for each in run(job / "shots.toml").values()} == {"up to date"}
    assert contents(job / "out") == before
    write_movie(job / "new.mp4", frames=FRAMES, size=(32, 32), options={"crf": "30"})
    os.replace(job / "new.mp4", job / "b.mp4")
    os.unlink(job / "out/c.mkv")
    changed = run(job / "shots.toml", overwrite=True)
    assert [changed[name].state for name in "abc"] == ["up to date", "done", "done"]
    again = run(job / "shots.toml", changes={"grow": "1"}, overwrite=True)
    assert {each.state for each in again.values()} == {"done"}


def test_an_output_that_is_there_is_not_replaced_without_being_asked(job):
    (job / "out").mkdir()
    (job / "out/b.mkv").write_bytes(b"mine")
    for resume in (False, True):
        ended = run(job / "shots.toml", resume=resume)
        assert "exists already" in ended["b"].reason
        assert (job / "out/b.mkv").read_bytes() == b"mine"


@pytest.fixture
def store(monkeypatch):
    """An object store with the bucket `mattes`."""
    fsspec = pytest.importorskip("fsspec")
    from object_store import ObjectStore

    monkeypatch.setattr(ObjectStore, "objects", {})
    monkeypatch.setattr(ObjectStore, "buckets", {"mattes"})
    monkeypatch.setattr(ObjectStore, "error", None)
    fsspec.register_implementation("store", ObjectStore, clobber=True)
    return ObjectStore


def sent_to(job, root, **defaults):
    return write_manifest(job, "abc", alpha=f"{root}/{{shot}}.mkv", **defaults)


def test_outputs_are_sent_to_addresses_and_staging_folders_go(job, store):
    run(job / "shots.toml")
    expected = contents(job / "out")
    sent_to(job, "store://mattes/night")
    assert [each.reason for each in run(job / "shots.toml").values()] == ["", "", ""]
    assert store.objects == {f"mattes/night/{name}": data for name, data in expected.items()}
    assert not (job / ".vidmatte-staging").exists()
    assert {each.state for each in run(job / "shots.toml").values()} == {"up to date"}
    del store.objects["mattes/night/b.mkv"]
    again = run(job / "shots.toml", changes={"grow": "1"})
    assert [again[name].state for name in "abc"] == ["failed", "done", "failed"]
    assert "a.mkv exists already" in again["a"].reason
    assert not (job / ".vidmatte-staging").exists()


def test_outputs_are_sent_to_addresses_of_files(job):
    pytest.importorskip("fsspec")
    run(job / "shots.toml")
    sent_to(job, f"file://{job}/sent")
    assert {each.state for each in run(job / "shots.toml").values()} == {"done"}
    assert contents(job / "sent") == contents(job / "out")
    assert {each.state for each in run(job / "shots.toml").values()} == {"up to date"}


def test_an_object_that_was_replaced_by_one_of_the_same_size_is_rendered_again(job, store):
    sent_to(job, "store://mattes")
    run(job / "shots.toml")
    store.objects["mattes/b.mkv"] = bytes(len(store.objects["mattes/b.mkv"]))
    again = run(job / "shots.toml", overwrite=True)
    assert [again[name].state for name in "abc"] == ["up to date", "done", "up to date"]


class NoCredentialsError(Exception):
    """As of botocore: no OSError."""


def test_a_storage_error_fails_the_shot_and_not_the_batch(job, store):
    sent_to(job, "store://mattes")
    store.error = NoCredentialsError("Unable to locate credentials")
    ended = run(job / "shots.toml")
    assert {each.state for each in ended.values()} == {"failed"}
    assert "NoCredentialsError: Unable to locate credentials" in ended["a"].reason
    checked = dry_run(job)
    assert {plan.state for plan in checked.values()} == {"refused"}
    assert "check the address, the credentials" in checked["a"].reason


def test_a_bucket_that_does_not_exist_is_not_created(job, store):
    sent_to(job, "store://mates")
    ended = run(job / "shots.toml")
    assert "'mates' does not exist in the storage" in ended["a"].reason
    assert store.buckets == {"mattes"}
    assert "'mates' does not exist" in dry_run(job)["a"].reason


@pytest.mark.parametrize(
    "root", ["memory://mattes", "data://mattes", "https://host/mattes", "nothing://mattes"]
)
def test_addresses_that_nothing_can_be_sent_to_are_refused(job, root):
    pytest.importorskip("fsspec")
    sent_to(job, root)
    ended = run(job / "shots.toml")
    assert {each.state for each in ended.values()} == {"failed"}
    assert root.partition(":")[0] in ended["a"].reason
    assert {plan.state for plan in dry_run(job).values()} == {"refused"}


def test_a_lost_worker_costs_a_unit_and_no_shot(job):
    run(job / "shots.toml")
    expected = contents(job / "out")
    for path in (job / "out").iterdir():
        path.unlink()
    ended = run(job / "shots.toml", lose=["begin", "render:1", "render:1", "join"])
    assert {each.state for each in ended.values()} == {"done"}
    assert contents(job / "out") == expected


def test_a_unit_that_kills_every_worker_is_given_up(job):
    ended = run(job / "shots.toml", lose=["render:1"] * 4)
    assert [ended[name].state for name in "abc"] == ["failed", "done", "done"]
    assert "signal 9" in ended["a"].reason


class TwoMachines(OneWorker):
    """An engine with a worker on each of two machines, of which "bad" cannot read its plates."""

    size = 2
    machines = ("bad", "good")

    def __init__(self, fails=lambda machine, task: machine == "bad"):
        super().__init__()
        self._fails = fails
        self.given = []

    @property
    def idle_machines(self):
        busy = [event.machine for event in self._events]
        return [machine for machine in self.machines if machine not in busy]

    def submit(self, task, machines):
        machine = next(name for name in self.idle_machines if name in machines)
        self.given.append((machine, task.shot))
        if self._fails(machine, task):
            missing = f"{task.shot}.mp4: no such file or directory"
            outcome = Outcome("failed", reason=missing, error="ReadError", retryable=True)
        else:
            outcome = self._worker.run(task)
        self._events.append(TaskDone(task, outcome, machine))

    def poll(self, seconds):
        # The machine that fails answers at once, the other one takes its time.
        self._events.sort(key=lambda event: event.outcome.kind != "failed")
        return [self._events.pop(0)] if self._events else []


def run_on(engine, manifest, **choices):
    notes = []
    results = Results(manifest.with_suffix(".results.jsonl"))
    batch = BatchRun(
        load_manifest(manifest), engine, results, threads=1, note=notes.append, **choices
    )
    return {each.name: each for each in batch.run()}, notes


def test_a_machine_that_fails_where_others_do_not_costs_no_shot_and_is_set_aside(job):
    engine = TwoMachines()
    ended, notes = run_on(engine, write_manifest(job, "abc", segment_frames=100))
    assert {each.state for each in ended.values()} == {"done"}
    assert [machine for machine, _ in engine.given].count("bad") == 2
    assert len(notes) == 1
    assert notes[0].startswith("bad is set aside")


def test_units_of_a_long_shot_go_to_another_machine_too(job):
    engine = TwoMachines(lambda machine, task: machine == "bad" and task.unit.startswith("render"))
    ended, _ = run_on(engine, write_manifest(job, "a", segment_frames=3))
    assert ended["a"].state == "done"
    assert "bad" in [machine for machine, _ in engine.given]


def test_a_shot_that_fails_on_two_machines_names_them_and_blames_neither(job):
    engine = TwoMachines(lambda machine, task: task.shot == "b")
    ended, notes = run_on(engine, write_manifest(job, "abc", segment_frames=100))
    assert [ended[name].state for name in "abc"] == ["done", "failed", "done"]
    assert re.search(r"no such file .* \(on (bad and good|good and bad)\)$", ended["b"].reason)
    assert notes == []
    assert sum(shot == "b" for _, shot in engine.given) == 2


def test_a_bad_machine_that_is_up_first_costs_no_shot(job):
    engine = TwoMachines()
    engine.machines = ("bad",)
    engine.starting = 1
    poll = engine.poll

    def poll_then_start(seconds):
        events = poll(seconds)
        if not events:
            engine.machines = ("bad", "good")
            engine.starting = 0
        return events

    engine.poll = poll_then_start
    ended, _ = run_on(engine, write_manifest(job, "abc", segment_frames=100))
    assert {each.state for each in ended.values()} == {"done"}


def test_without_another_machine_a_bad_one_fails_its_shots_by_name(job):
    engine = TwoMachines()
    engine.machines = ("bad",)
    ended, _ = run_on(engine, write_manifest(job, "ab", segment_frames=100))
    assert {each.reason.endswith("(on bad)") for each in ended.values()} == {True}


def test_retries_are_for_what_may_pass(job, monkeypatch):
    tries = []

    def fails_once(worker, task, asked):
        tries.append(task.shot)
        if tries.count("a") == 1 and task.shot == "a":
            raise OSError(5, "Input/output error", "a.mp4")
        return begin(worker, task, asked)

    begin = Worker._begin
    monkeypatch.setattr(Worker, "_begin", fails_once)
    assert run(job / "shots.toml", retries=1)["a"].state == "done"
    assert tries.count("a") == 2


def test_outputs_that_were_kept_are_not_rendered_again(job, monkeypatch):
    tries = []

    def is_finished_but_not_in_place(worker, task, asked):
        tries.append(task.shot)
        raise PlacementError("a.mkv: cannot be put in place; the finished output is kept as ...")

    monkeypatch.setattr(Worker, "_begin", is_finished_but_not_in_place)
    assert run(job / "shots.toml", retries=3)["a"].state == "failed"
    assert tries.count("a") == 1


def test_the_dry_run_renders_nothing_and_says_what_is_wrong(job):
    (job / "b.mp4").unlink()
    shots = load_manifest(job / "shots.toml")
    plans = {plan.name: plan for plan in check_shots(shots, Results(job / "none.jsonl"))}
    assert [plans[name].state for name in "abc"] == ["ready", "refused", "ready"]
    assert (plans["a"].frames, plans["a"].size, plans["a"].segments) == (FRAMES, (32, 32), 3)
    assert plans["a"].needed == int(0.8 * 32 * 32 * FRAMES * 2)
    assert not (job / "out").exists()


def test_space_that_is_short_is_said(tmp_path):
    assert space_needed([ShotPlan("a", "ready", needed=1000, folder=tmp_path / "new")]) == []
    (sentence,) = space_needed([ShotPlan("a", "ready", needed=10**18, folder=tmp_path / "new")])
    assert str(tmp_path) in sentence


def test_a_worker_of_another_version_is_refused_by_name():
    refuse_other({"machine": "node7", **own_facts()})
    with pytest.raises(VidmatteError, match=r"worker on node7 has vidmatte 9.9"):
        refuse_other({"machine": "node7", **own_facts(), "vidmatte": "9.9"})
    with pytest.raises(VidmatteError, match=r"worker on node7 has weights 'compact' abc"):
        refuse_other({"machine": "node7", **own_facts(), "weights 'compact'": "abc"})


def test_the_command_renders_reports_and_ends_with_1(job):
    (job / "b.mp4").unlink()
    result = CliRunner().invoke(
        cli,
        [
            "batch",
            str(job / "shots.toml"),
            "--json",
            "--workers",
            "1",
            "--report",
            str(job / "page"),
        ],
    )
    assert result.exit_code == 1
    assert "Failed: b: " in result.stderr
    shots = {shot["shot"]: shot for shot in json.loads(result.stdout)["shots"]}
    assert (shots["a"]["state"], shots["a"]["frames"]) == ("done", FRAMES)
    page = (job / "page/index.html").read_text()
    assert "1 failed" in page
    assert 'src="sheets/a.jpg"' in page
    assert cv2.imread(str(job / "page/sheets/c.jpg")) is not None
    assert CliRunner().invoke(cli, ["batch", str(job / "shots.toml"), "--dry-run"]).exit_code == 1


def test_an_address_that_does_not_answer_is_an_error(job):
    pytest.importorskip("ray")
    result = CliRunner().invoke(
        cli, ["batch", str(job / "shots.toml"), "--engine", "ray", "--address", "127.0.0.1:1"]
    )
    assert result.exit_code == 1
    assert "127.0.0.1:1 does not answer" in result.stderr


def test_ctrl_c_finishes_the_segment_and_resume_goes_on(job):
    write_manifest(job, "abc", segment_frames=2, grow=3, feather=30)
    expected = job / "expected"
    run(job / "shots.toml")
    os.rename(job / "out", expected)
    (job / "shots.results.jsonl").unlink()
    command = [sys.executable, "-m", "vidmatte", "batch", str(job / "shots.toml"), "--workers", "1"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    deadline = time.monotonic() + 60
    while (
        not list((job / "out").glob(".*/parts/0*"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    if process.returncode != 130:
        pytest.skip(f"it was faster than the interrupt: {said}")
    assert "Finishing what is being rendered" in said
    done = run(job / "shots.toml", resume=True)
    assert {each.state for each in done.values()} <= {"done", "up to date"}
    assert contents(job / "out") == contents(expected)


def test_frames_are_counted_as_they_come(clips, job):
    seen = []
    worker = Worker(report=seen.append)
    (shot,) = load_manifest(write_manifest(job, "a", segment_frames=50))
    from vidmatte.batch.task import BEGIN, Task

    outcome = worker.run(Task(shot.name, BEGIN, shot.request))
    assert outcome.kind == "completed"
    assert sum(event.count for event in seen if isinstance(event, Progress)) == FRAMES
