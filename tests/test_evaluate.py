"""Evaluation of a model whose errors are known by hand.

Tables, rounds, resuming, workers, and mattes of other systems.
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import write_movie
from evaluation import (
    HEIGHT,
    WIDTH,
    RedModel,
    TrimapModel,
    codes,
    disk,
    load_red,
    write_clip,
    write_group,
    write_pair,
)

from vidmatte.datasets import open_dataset
from vidmatte.errors import OptionError, ReadError, VidmatteError, WriteError
from vidmatte.evaluate import MethodUnderTest, Protocol, as_text, run, write_evaluation
from vidmatte.evaluate.formats import as_latex, as_markdown
from vidmatte.evaluate.journal import LINES
from vidmatte.evaluate.plot import can_plot
from vidmatte.evaluate.workers import share
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.model.weights import WEIGHTS
from vidmatte.options import MatteOptions
from vidmatte.write import OutputSpec, create_outputs

PIXELS = HEIGHT * WIDTH
RED = MethodUnderTest("red", load=load_red)


def values(evaluation, name):
    return {result.name: result.values[name] for result in evaluation.results}


@pytest.fixture
def groups(tmp_path):
    """Two groups; the reference of a group, whichever it is, has no error of its own to hide."""
    write_group(tmp_path / "data", "a", [10, 10, 10])
    write_group(tmp_path / "data", "b", [20, 20])
    return open_dataset("groups", tmp_path / "data")


def test_errors_of_images_are_those_made_by_hand(groups, tmp_path):
    found = run(groups, RED, Protocol(), tmp_path / "out")
    # Two of three images of the first group are targets, one of two of the second: 10, 10 and 20
    # wrong pixels.
    assert sorted(values(found, "SAD").values()) == pytest.approx([0.010, 0.010, 0.020])
    table = write_evaluation(found)
    (mean,) = table.means
    assert mean.samples == 3
    by_name = dict(zip([measure.name for measure in table.measures], mean.values, strict=True))
    assert by_name["SAD"] == pytest.approx(0.040 / 3)
    assert by_name["MSE"] == by_name["MAD"] == pytest.approx(40 / 3 / PIXELS)
    assert [row.label for row in table.rows] == ["a", "b"]
    assert "nothing is drawn: one round stands for all 3" in table.notes


def test_trimaps_change_the_region_only_on_request(tmp_path):
    write_group(tmp_path / "data", "a", [10, 10], trimap=True)
    dataset = open_dataset("groups", tmp_path / "data")
    found = run(dataset, RED, Protocol(), tmp_path / "out")
    assert list(values(found, "MAD").values()) == pytest.approx([10 / PIXELS])
    assert any("--region unknown" in note for note in found.notes)
    assert "errors in the whole image" in as_text(write_evaluation(found))
    # The unknown area is the first row.
    unknown = run(dataset, RED, Protocol(region="unknown"), tmp_path / "unknown")
    assert list(values(unknown, "MAD").values()) == pytest.approx([10 / WIDTH])
    assert "errors in the unknown area" in as_text(write_evaluation(unknown))


def test_conn_of_the_research_code_is_measured_on_request(groups, tmp_path):
    measures = {
        kind: run(groups, RED, Protocol(conn=kind), tmp_path / kind).measures
        for kind in ("benchmark", "research")
    }
    assert [measure.header for measure in measures["benchmark"]][3] == "Conn /1000"
    assert [measure.header for measure in measures["research"]][3] == "Conn (research) /1000"


def test_the_paper_protocol_compares_squares_from_the_middle(tmp_path):
    # Errors in the first 8 pixels of the first row lie outside the square of 48x48 in 64x48.
    write_group(tmp_path / "data", "a", [8, 8])
    dataset = open_dataset("groups", tmp_path / "data")
    protocol = Protocol.paper(guidance="each")
    found = run(dataset, RED, protocol, tmp_path / "out")
    # What is left are roundings of the image to 8 bits along soft edges.
    assert list(values(found, "SAD").values()) == pytest.approx([0, 0], abs=0.05)
    # Of 12 wrong pixels 4 lie inside. Bilinear interpolation keeps sums: each is 16 x 16 pixels.
    write_group(tmp_path / "more", "a", [12, 12])
    found = run(open_dataset("groups", tmp_path / "more"), RED, protocol, tmp_path / "wrong")
    wrong = 4 * 16 * 16 / 1000
    assert list(values(found, "SAD").values()) == pytest.approx([wrong, wrong], abs=0.05)
    title = as_text(write_evaluation(found)).splitlines()[0]
    assert "squares of 768 pixels from its middle" in title
    assert "Conn (research)" in as_text(write_evaluation(found))


def test_mattes_of_squares_are_scored_by_the_paper_protocol(tmp_path):
    write_group(tmp_path / "data", "a", [0, 0])
    dataset = open_dataset("groups", tmp_path / "data")
    truth = dataset.groups[0].images[0].read_alpha((HEIGHT, WIDTH))
    square = cv2.resize(truth[:, 8:56], (768, 768), interpolation=cv2.INTER_LINEAR)
    (tmp_path / "theirs").mkdir()
    cv2.imwrite(str(tmp_path / "theirs/i0.png"), np.rint(65535 * square).astype(np.uint16))
    write_predictions(dataset, tmp_path / "theirs", 0)
    (tmp_path / "theirs/a/i0.png").unlink()
    subject = MethodUnderTest("theirs", predictions=tmp_path / "theirs")
    found = run(dataset, subject, Protocol.paper(guidance="each"), tmp_path / "out")
    assert max(values(found, "MAD").values()) < 1e-4


def test_files_of_a_run(groups, tmp_path):
    found = run(groups, RED, Protocol(prompt="points", rounds=2), tmp_path / "out")
    write_evaluation(found)
    rows = list(csv.DictReader((tmp_path / "out/results.csv").read_text().splitlines()))
    assert len(rows) == 6  # three targets, two rounds
    assert float(rows[0]["SAD /1000"]) in (0.010, 0.020)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["mean"]["SAD"] == pytest.approx(0.040 / 3)
    assert summary["rounds"] == 2
    page = (tmp_path / "out/index.html").read_text()
    pictures = sorted((tmp_path / "out/pictures").iterdir())
    assert len(pictures) == 3
    assert all(f"pictures/{path.name}" in page for path in pictures)
    strip = cv2.imread(str(pictures[0]))
    assert strip.shape[:2] == (HEIGHT, 5 * WIDTH + 4 * 4)  # input, prompt, alpha, truth, error


def test_the_page_goes_from_the_worst_to_the_best(groups, tmp_path):
    found = run(groups, RED, Protocol(guidance="each"), tmp_path / "out")
    write_evaluation(found)
    assert [result.group for result in found.worst_first()] == ["b", "b", "a", "a", "a"]
    page = (tmp_path / "out/index.html").read_text()
    assert page.index("1. b/i0") < page.index("3. a/i0")
    assert "<p>MSE 0.0065; SAD /1000 0.02; " in page


def test_a_picture_shows_the_error_where_it_is(tmp_path):
    write_group(tmp_path / "data", "a", [WIDTH, WIDTH])
    run(open_dataset("groups", tmp_path / "data"), RED, Protocol(guidance="each"), tmp_path / "out")
    strip = cv2.imread(str(tmp_path / "out/pictures/00000_00000.jpg")).astype(int)
    error = strip[:, -WIDTH:]
    yellow, blue = error[0].mean(0), error[HEIGHT // 2].mean(0)
    assert yellow[2] > 150 > yellow[0]  # blue, green, red
    assert blue[2] < 100


def test_errors_of_clips_are_those_made_by_hand(tmp_path):
    write_clip(tmp_path / "data", "c", [5, 10, 10, 30])
    dataset = open_dataset("clips", tmp_path / "data")
    found = run(dataset, RED, Protocol(), tmp_path / "out")
    (result,) = found.results
    # The marked frame does not count: 10, 10 and 30 wrong pixels, of which 0 and 20 change.
    assert result.values["MAD"] == pytest.approx(1000 * 50 / 3 / PIXELS)
    assert result.values["dtSSD"] == pytest.approx(100 * (0 + np.sqrt(20 / PIXELS)) / 2)
    assert result.by_frame == pytest.approx([1000 * n / PIXELS for n in (10, 10, 30)])
    assert [caption for caption, _ in result.pictures] == ["frame 3"]  # the worst is the last


def test_clips_with_masks_have_j_and_f(tmp_path):
    write_clip(tmp_path / "data", "c", [0, 0, 100], kind="masks")
    found = run(open_dataset("clips", tmp_path / "data"), RED, Protocol(), tmp_path / "out")
    area = int(disk().sum())
    # 64 pixels of a row of 64 are wrong: they are all that the row has.
    assert found.results[0].values["J"] == pytest.approx((1 + area / (area + 64)) / 2)
    assert set(found.results[0].values) == {"J", "F"}


def test_first_and_last_frames_count_on_request(tmp_path):
    write_clip(tmp_path / "data", "c", [5, 10, 10, 30])
    dataset = open_dataset("clips", tmp_path / "data")
    found = run(dataset, RED, Protocol(first_frame="count"), tmp_path / "first")
    assert found.results[0].frames == (0, 1, 2, 3)
    assert found.results[0].values["MAD"] == pytest.approx(1000 * 55 / 4 / PIXELS)
    # The first frame has a dtSSD of 0 that counts, as in the published scripts.
    changes = [0, np.sqrt(5 / PIXELS), 0, np.sqrt(20 / PIXELS)]
    assert found.results[0].values["dtSSD"] == pytest.approx(100 * sum(changes) / 4)
    found = run(dataset, RED, Protocol(last_frame="skip"), tmp_path / "last")
    assert found.results[0].frames == (1, 2)
    assert "the last frame does not count" in found.notes


def test_objects_of_a_clip_are_scored_one_by_one(tmp_path):
    (tmp_path / "data/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "data/ImageSets/2017/val.txt").write_text("c\n")
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:20, 10:20] = 1
    labels[30:40, 40:60] = 2
    for frame in range(4):
        # The model answers with the red channel: object 1, whatever was marked.
        red = (labels == 1).astype(np.float32)
        write_pair(
            tmp_path / "data", red, red, image=f"JPEGImages/480p/c/{frame:05d}.png", alpha="x.png"
        )
        path = tmp_path / "data/Annotations/480p/c" / f"{frame:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), labels)
    found = run(open_dataset("davis2017", tmp_path / "data"), RED, Protocol(), tmp_path / "out")
    assert values(found, "J") == {"c/1": 1, "c/2": 0}
    assert values(found, "J&F")["c/1"] == 1
    # Neither the first nor the last frame counts.
    assert found.results[0].frames == (1, 2)
    text = as_text(write_evaluation(found))
    assert "MatAnyone (quoted)" in text


def test_frames_without_truth_do_not_count(tmp_path):
    for frame in range(21):
        red = disk(center=(24, 24))
        red[0, : frame + 1] = 1
        write_pair(
            tmp_path,
            red,
            disk(center=(24, 24)),
            image=f"image_allframe/c/{frame:04d}.png",
            alpha=f"alpha/c/{frame:04d}.png" if frame % 10 == 0 else "x.png",
        )
    found = run(open_dataset("crgnn", tmp_path), RED, Protocol(), tmp_path / "out")
    (result,) = found.results
    assert result.frames == (0, 10, 20)
    assert result.by_frame == pytest.approx([1000 * n / PIXELS for n in (1, 11, 21)])
    # From one truth to the next, and 0 for the first.
    assert result.values["dtSSD"] == pytest.approx(100 * 2 * np.sqrt(10 / PIXELS) / 3)
    assert "MESSDdt" not in result.values
    assert "MatAnyone 2 (quoted)" in as_text(write_evaluation(found))


def test_published_rows_are_those_of_the_same_frame_size(tmp_path):
    blank = np.zeros((288, 512), np.float32)
    blank[100:200, 200:300] = 1
    for frame in range(2):
        write_pair(
            tmp_path / "videomatte_static/0000",
            blank,
            blank,
            image=f"com/{frame:04d}.png",
            alpha=f"pha/{frame:04d}.png",
        )
    found = run(open_dataset("videomatte", tmp_path), RED, Protocol(), tmp_path / "out")
    text = as_text(write_evaluation(found))
    row = next(line for line in text.splitlines() if line.startswith("RVM (table 1, quoted)"))
    assert row.split()[-6:] == ["6.08", "1.47", "0.88", "1.36", "-", "0.41"]
    assert "6.57" not in text  # of 1920x1080


def test_the_summary_names_weights_torch_and_device(tmp_path):
    write_group(tmp_path / "data", "a", [0, 0])
    dataset = open_dataset("groups", tmp_path / "data")
    write_evaluation(run(dataset, MethodUnderTest("compact"), Protocol(), tmp_path / "out"))
    environment = json.loads((tmp_path / "out/summary.json").read_text())["environment"]
    weights = {entry["file"]: entry["sha256"] for entry in environment["weights"]}
    path = WEIGHTS["compact"].path
    assert weights["compact.safetensors"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu"


def test_tables_are_written_as_markdown_and_latex(groups, tmp_path):
    table = write_evaluation(run(groups, RED, Protocol(), tmp_path / "out"))
    markdown = (tmp_path / "out/table.md").read_text()
    assert markdown == as_markdown(table) + "\n"
    lines = markdown.splitlines()
    assert lines[2].startswith("|  | samples | MSE | SAD /1000 |")
    assert set(lines[3]) <= set("|-: ")
    assert {line.count("|") for line in lines[2:7]} == {8}
    latex = (tmp_path / "out/table.tex").read_text()
    assert r"\begin{tabular}{llrrrrr}" in latex
    assert latex.count(r"\\") == 4  # the head, two groups and the mean
    named = replace(table, rows=(replace(table.rows[0], label="50%_a&b"),))
    assert r"50\%\_a\&b & " in as_latex(named)


def test_a_seed_among_the_settings_is_refused(groups, tmp_path):
    subject = MethodUnderTest("x", MatteOptions(settings="seed=3"), load=load_red)
    with pytest.raises(OptionError, match=r"rounds have seeds of their own.*use --seed"):
        run(groups, subject, Protocol(), tmp_path / "out")


def test_a_single_frame_counts_itself(tmp_path):
    write_clip(tmp_path / "data", "c", [7, 10])
    found = run(open_dataset("clips", tmp_path / "data"), RED, Protocol(frames=1), tmp_path / "out")
    assert found.results[0].values["MAD"] == pytest.approx(1000 * 7 / PIXELS)
    assert np.isnan(found.results[0].values["dtSSD"])
    table = write_evaluation(found)
    assert "-" in as_text(table).splitlines()[2].split()


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(groups, tmp_path):
    protocol = Protocol(prompt="points", rounds=2)
    unbroken = run(groups, RED, protocol, tmp_path / "whole")
    write_evaluation(unbroken)
    seen = []

    def stop(done, total):
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(groups, RED, protocol, tmp_path / "out", on_done=stop)
    with (tmp_path / "out" / LINES).open("a") as file:
        file.write('{"part": "1/1", "resu')  # killed while a line was written

    def counted(switches):
        class Counting(RedModel):
            def with_reference(self, references):
                seen.append(references)
                return super().with_reference(references)

        return Counting()

    resumed = run(groups, MethodUnderTest("red", load=counted), protocol, tmp_path / "out")
    write_evaluation(resumed)
    assert len(seen) == 2  # of four parts
    for name in ("results.csv", "table.txt", "index.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len((tmp_path / "out" / LINES).read_text().splitlines()) == 4


def test_results_of_another_run_are_not_mixed_in(groups, tmp_path):
    run(groups, RED, Protocol(), tmp_path / "out")
    with pytest.raises(OptionError, match=r"another run \(seed was 0, now 1\)"):
        run(groups, RED, Protocol(seed=1), tmp_path / "out")
    found = run(groups, RED, Protocol(seed=1), tmp_path / "out", overwrite=True)
    assert len(found.results) == 3


def test_a_folder_with_other_files_is_left_alone(groups, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(OptionError, match="holds other files"):
            run(groups, RED, Protocol(), tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(groups, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(WriteError, match="locked/out"):
        run(groups, RED, Protocol(), tmp_path / "locked" / "out")


def test_a_full_disk_is_named_and_what_is_done_stays(groups, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vidmatte.evaluate.journal.os.fsync", full)
    with pytest.raises(WriteError, match=r"No space left on device.*same command again"):
        run(groups, RED, Protocol(), tmp_path / "out")


def test_two_workers_give_the_table_of_one(groups, tmp_path):
    for workers in (1, 2):
        found = run(
            groups,
            RED,
            Protocol(prompt="scribble", rounds=2),
            tmp_path / str(workers),
            workers=workers,
        )
        write_evaluation(found)
    for name in ("results.csv", "table.txt", "index.html"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def fail_to_prepare():
    raise ReadError("photo.png: is damaged")


def die():
    os._exit(3)


def test_errors_of_workers_reach_the_caller():
    with pytest.raises(ReadError, match=r"^photo\.png: is damaged$"):
        list(share(fail_to_prepare, [1, 2], 2))


def test_death_of_a_worker_is_reported():
    with pytest.raises(VidmatteError, match=r"a worker process died, .* use fewer --workers"):
        list(share(die, [1, 2], 2))


def prepare_sleep():
    return sleep_long


def sleep_long(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_closing_the_results_ends_the_workers_at_once():
    results = share(prepare_sleep, [0, 600], 2)
    pid = next(results)
    begun = time.monotonic()
    results.close()
    assert time.monotonic() - begun < 60  # not 600: running tasks are not waited for
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def is_running(pid):
    """Whether a process runs; one that ended but was not reaped by its new parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_workers_end_if_their_parent_is_killed():
    code = (
        "from test_evaluate import prepare_sleep, share\n"
        "if __name__ == '__main__':\n"
        "    for pid in share(prepare_sleep, [0, 600], 2):\n"
        "        print(pid, flush=True)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 60
    while is_running(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(worker)


def write_predictions(dataset, folder, offset):
    """Mattes of another system: the truth, a little too bright everywhere."""
    for group in dataset.groups:
        for sample in group.images:
            truth = sample.read_alpha((HEIGHT, WIDTH))
            path = folder / group.name / f"{sample.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.rint(65535 * np.clip(truth + offset, 0, 1)).astype(np.uint16))


def test_mattes_of_another_system_are_scored(groups, tmp_path):
    write_predictions(groups, tmp_path / "theirs", 0.25)
    subject = MethodUnderTest("theirs", predictions=tmp_path / "theirs")
    found = run(groups, subject, Protocol(guidance="each"), tmp_path / "out")
    outside = 1 - disk().mean()
    assert values(found, "MAD")["b/i0"] == pytest.approx(0.25 * outside, abs=1e-4)
    assert len(found.results) == 5
    # The same targets as a model has, where references are kept out.
    assert len(run(groups, subject, Protocol(), tmp_path / "less").results) == 3


def test_what_is_kept_of_a_run_can_be_scored(groups, tmp_path):
    ours = run(groups, RED, Protocol(), tmp_path / "out", keep_mattes=True)
    again = run(
        groups,
        MethodUnderTest("red", predictions=tmp_path / "out/mattes"),
        Protocol(),
        tmp_path / "again",
    )
    assert values(again, "SAD") == pytest.approx(values(ours, "SAD"))


def test_a_matte_that_is_missing_or_of_another_size_is_named(groups, tmp_path):
    write_predictions(groups, tmp_path / "theirs", 0.25)
    (tmp_path / "theirs/b/i1.png").unlink()
    subject = MethodUnderTest("theirs", predictions=tmp_path / "theirs")
    with pytest.raises(ReadError, match=r"no matte of .*i1.*; looked for b/i1\.\* and i1\.\*"):
        run(groups, subject, Protocol(guidance="each"), tmp_path / "out")
    cv2.imwrite(str(tmp_path / "theirs/b/i1.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(ReadError, match=r"i1\.png: is 4x4, but its image .* is 64x48"):
        run(groups, subject, Protocol(guidance="each"), tmp_path / "out")
    with pytest.raises(OptionError, match="no folder"):
        run(
            groups,
            MethodUnderTest("x", predictions=tmp_path / "nowhere"),
            Protocol(),
            tmp_path / "new",
        )


@pytest.mark.parametrize("form", ["files", "movie"])
def test_clips_of_another_system_are_scored(tmp_path, form):
    write_clip(tmp_path / "data", "c", [0, 0, 0])
    dataset = open_dataset("clips", tmp_path / "data")
    truths = [dataset.clips[0].read_alpha(n, (HEIGHT, WIDTH)) for n in range(3)]
    folder = tmp_path / "theirs"
    folder.mkdir()
    if form == "files":
        for n, truth in enumerate(truths):
            path = folder / "c" / "pha" / f"{n:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.rint(255 * np.clip(truth + 0.2, 0, 1)).astype(np.uint8))
    else:
        rate = Fraction(24)
        info = VideoInfo("c", WIDTH, HEIGHT, rate, 1 / rate)
        with create_outputs([OutputSpec(str(folder / "c.mkv"), alpha_only=True)], like=info) as out:
            for n, truth in enumerate(truths):
                batch = FrameBatch(torch.zeros(1, 3, HEIGHT, WIDTH), (n,), (n,), (1,))
                alpha = torch.from_numpy(np.clip(truth + np.float32(0.2), 0, 1))[None, None]
                out.write(MatteBatch(batch, alpha, (1.0,)))
    found = run(
        dataset, MethodUnderTest("theirs", predictions=folder), Protocol(), tmp_path / "out"
    )
    assert found.results[0].values["MAD"] == pytest.approx(
        1000 * 0.2 * (1 - disk().mean()), rel=0.01
    )
    assert found.results[0].frames == (1, 2)


def test_a_movie_of_mattes_that_is_too_short_is_named(tmp_path):
    write_clip(tmp_path / "data", "c", [0, 0, 0])
    (tmp_path / "theirs").mkdir()
    write_movie(tmp_path / "theirs" / "c.mp4", frames=2, size=(WIDTH, HEIGHT))
    subject = MethodUnderTest("theirs", predictions=tmp_path / "theirs")
    with pytest.raises(ReadError, match=r"c\.mp4: has 2 mattes, but .* at least 3 frames"):
        run(open_dataset("clips", tmp_path / "data"), subject, Protocol(), tmp_path / "out")


def test_rows_of_the_paper_stand_beside_ours_marked_as_quoted(tmp_path):
    for index in range(3):
        truth = disk()
        for folder, plane in (("image", truth), ("alpha", truth)):
            path = tmp_path / "ICM57" / folder / f"i{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), (255 * plane).astype(np.uint8))
    record = {"class": "animal", "sub_class": "dog", "HalfOrFull": "full"}
    (tmp_path / "ICM57.json").write_text(json.dumps({f"i{n}": record for n in range(3)}))
    found = run(open_dataset("icm57", tmp_path / "ICM57"), RED, Protocol(), tmp_path / "out")
    text = as_text(write_evaluation(found))
    line = next(
        line for line in text.splitlines() if line.startswith("IconMatting (table 3, quoted)")
    )
    assert line.split()[-5:] == ["0.0081", "19.12", "18.65", "11.21", "-"]
    assert "quoted from Guo et al., CVPR 2024" in text
    assert {
        row["table"] for row in json.loads((tmp_path / "out/summary.json").read_text())["quoted"]
    } == {2, 3, 4}


@pytest.mark.skipif(not can_plot(), reason="matplotlib is not installed")
def test_the_same_values_give_the_same_plot(groups, tmp_path):
    for name in ("one", "two"):
        write_evaluation(run(groups, RED, Protocol(), tmp_path / name))
    plot = (tmp_path / "one/plot.svg").read_bytes()
    assert plot.startswith(b"<?xml")
    assert plot == (tmp_path / "two/plot.svg").read_bytes()


def test_a_model_that_takes_trimaps_gets_that_of_each_image(tmp_path):
    write_group(tmp_path / "data", "a", [0, 0], trimap=True)
    dataset = open_dataset("groups", tmp_path / "data")
    subject = MethodUnderTest("trimaps", load=lambda switches: TrimapModel())
    found = run(dataset, subject, Protocol(prompt="trimap", region="whole"), tmp_path / "out")
    # Unknown is the first row, half wrong all along; the rest is the truth.
    assert list(values(found, "SAD").values()) == pytest.approx([0.5 * WIDTH / 1000] * 2)
    with pytest.raises(OptionError, match="use prompt 'trimap'"):
        run(dataset, subject, Protocol(guidance="each"), tmp_path / "other")


def test_a_model_that_takes_trimaps_gets_that_of_each_frame(tmp_path):
    write_clip(tmp_path / "data", "c", [0, 0, 0])
    soft = codes(disk(center=(24, 25)))
    soft[0] = 200  # neither object nor background: unknown in the trimap, and so 0.5 in the matte
    cv2.imwrite(str(tmp_path / "data/c/alpha/0001.png"), soft)
    dataset = open_dataset("clips", tmp_path / "data")
    subject = MethodUnderTest("trimaps", load=lambda switches: TrimapModel())
    found = run(dataset, subject, Protocol(prompt="trimap"), tmp_path / "out")
    assert found.results[0].frames == (0, 1, 2)  # no frame is a reference
    assert found.results[0].values["MAD"] == pytest.approx(
        1000 * WIDTH * (200 / 255 - 0.5) / PIXELS / 3
    )
    with pytest.raises(OptionError, match="model 'red' takes none of each frame"):
        run(dataset, RED, Protocol(prompt="trimap"), tmp_path / "red")
