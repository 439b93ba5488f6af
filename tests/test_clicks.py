"""The interactive protocol: where the next click goes, and what is counted."""

import json
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from evaluation import HEIGHT, WIDTH, RedModel, codes, disk, write_clip, write_group

from vidmatte.cli import cli
from vidmatte.datasets import open_dataset
from vidmatte.errors import OptionError, ReadError
from vidmatte.evaluate import MethodUnderTest, Protocol, as_text, run, write_evaluation
from vidmatte.evaluate.clicks import Session, click_through
from vidmatte.evaluate.method import SeenImage
from vidmatte.evaluate.usual_prompts import stroke_along
from vidmatte.frames import MatteBatch
from vidmatte.synth.prompts import add_correction, next_click

EMPTY = np.zeros((HEIGHT, WIDTH), np.float32)


def blocks(*places):
    """(H, W) bool: rectangles from top, left to bottom, right."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for top, left, bottom, right in places:
        mask[top:bottom, left:right] = True
    return mask


def test_first_click_is_in_the_middle_of_the_object():
    assert next_click(EMPTY, blocks((10, 20, 21, 31)), None, []) == (25, 15, 1)


def test_click_goes_to_the_widest_error():
    # Missing: 5x5. Surplus: 9x9. The longest error, a line of 60 pixels, is thin.
    truth = blocks((2, 2, 7, 7), (40, 2, 41, 62))
    answer = blocks((20, 30, 29, 39)).astype(np.float32)
    assert next_click(answer, truth, None, []) == (34, 24, 0)
    # Without it, the missing block is the widest.
    assert next_click(EMPTY, truth, None, []) == (4, 4, 1)


def test_alpha_of_one_half_is_no_object():
    truth = blocks((10, 20, 21, 31))
    half = np.full_like(EMPTY, 0.5)
    assert next_click(half, truth, None, []) == (25, 15, 1)
    assert next_click(truth * np.float32(0.51), truth, None, []) is None


def test_pixels_that_do_not_count_are_not_clicked():
    truth = blocks((10, 20, 21, 31))
    counted = np.ones((HEIGHT, WIDTH), bool)
    counted[:, 25:] = False
    x, y, label = next_click(EMPTY, truth, counted, [])
    assert (x, label) == (22, 1)
    assert 10 <= y < 21
    assert next_click(EMPTY, blocks((10, 30, 20, 40)), counted, []) is None


def test_a_correction_marks_the_missing_part_as_object():
    truth = blocks((10, 20, 31, 41)).astype(np.float32)
    labels, known = add_correction(EMPTY, truth, EMPTY, EMPTY, np.random.default_rng(0))
    marked = known > 0
    assert marked.any()
    assert (labels[marked] == 1).all()
    assert (truth[marked] == 1).all()


def test_a_correction_marks_the_surplus_as_background():
    found = blocks((10, 20, 31, 41)).astype(np.float32)
    labels, known = add_correction(found, EMPTY, EMPTY, EMPTY, np.random.default_rng(0))
    marked = known > 0
    assert (labels[marked] == 0).all()
    assert (found[marked] == 1).all()


def test_a_right_answer_is_not_corrected():
    truth = blocks((10, 20, 31, 41)).astype(np.float32)
    labels, known = add_correction(truth, truth, EMPTY, EMPTY, np.random.default_rng(0))
    assert not known.any()
    assert not labels.any()


def test_few_corrections_are_wrong_and_the_earlier_marks_stay():
    truth = blocks((10, 20, 31, 41)).astype(np.float32)
    before = np.zeros_like(EMPTY)
    before[12:14, 22:24] = 1
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        labels, known = add_correction(EMPTY, truth, before, before, rng)
        assert (labels[before > 0] == 1).all()
        wrong += bool((labels[(known > 0) & (before == 0)] == 0).any())
    assert 0 < wrong < 20


def test_no_pixel_is_clicked_twice():
    truth = blocks((10, 20, 21, 31))
    first = next_click(EMPTY, truth, None, [])
    second = next_click(EMPTY, truth, None, [first])
    assert second != first


@dataclass
class Columns(RedModel):
    """Answers the k-th click with so many columns of the object, as `widths` say."""

    widths: tuple
    asked: list = field(default_factory=list)

    def with_reference(self, references):
        (reference,) = references
        self.asked.append(reference)
        width = self.widths[min(len(self.asked), len(self.widths)) - 1]
        alpha = torch.zeros(1, 1, HEIGHT, WIDTH)
        alpha[..., 10:20, 0:width] = 1
        return lambda batch: MatteBatch(batch, alpha, (0.5,))


def clicked(widths, most=20):
    """The session on an object of 10 rows and 20 columns."""
    seen = SeenImage(torch.zeros(1, 3, HEIGHT, WIDTH), np.float32(blocks((10, 0, 20, 20))), None)
    return click_through(Columns(widths), seen, index=0, most=most)


def test_overlap_after_each_click_is_that_of_the_answers():
    session = clicked((10, 14, 12, 17, 18))
    assert session.overlaps[:5] == pytest.approx((0.5, 0.7, 0.6, 0.85, 0.9))
    values = session.values(20)
    assert [values[name] for name in ("J@1", "J@3", "J@5", "J@10")] == pytest.approx(
        [0.5, 0.6, 0.9, 0.9]
    )
    assert (values["NoC@85"], values["NoC@90"]) == (4, 5)
    # It ends after ten clicks, as all figures are known. One of nine changes was a loss.
    assert len(session.clicks) == 10
    assert values["drops"] == pytest.approx(1 / 9)


def test_small_losses_are_no_drops():
    # Of 20 columns one is 0.05; of rows none is lost. 0.02 is more than the tenth of a column.
    session = Session(((0, 0, 1),) * 3, (0.50, 0.481, 0.45), None)
    assert session.values(20)["drops"] == pytest.approx(1 / 2)


def test_objects_that_are_never_reached_take_all_clicks():
    session = clicked((4,))
    values = session.values(20)
    assert len(session.clicks) == 20
    assert (values["NoC@85"], values["NoC@90"]) == (20, 20)
    assert values["J@10"] == pytest.approx(0.2)


def test_a_perfect_answer_ends_the_session():
    session = clicked((20,))
    assert len(session.clicks) == 1
    values = session.values(20)
    assert [values[name] for name in ("J@1", "J@3", "J@5", "J@10")] == [1, 1, 1, 1]
    assert (values["NoC@85"], values["drops"]) == (1, 0)


def test_figures_after_more_clicks_than_asked_for_are_missing():
    values = clicked((4,), most=3).values(3)
    assert values["J@3"] == pytest.approx(0.2)
    assert np.isnan(values["J@5"])
    assert values["NoC@85"] == 3


def test_clicks_reach_the_model_as_points():
    model = Columns((0, 10, 20))
    seen = SeenImage(torch.zeros(1, 3, HEIGHT, WIDTH), np.float32(blocks((10, 0, 20, 20))), None)
    click_through(model, seen, index=3, most=2)
    first, second = model.asked
    assert first.frame == 3
    # 10x20 at the left edge: of the middles the first in reading order.
    assert first.known[0, 0, 14, 4] == 1
    assert first.alpha[0, 0, 14, 4] == 1
    assert second.known.sum() > first.known.sum()


def test_an_image_without_an_object_is_refused():
    seen = SeenImage(torch.zeros(1, 3, HEIGHT, WIDTH), EMPTY, None)
    with pytest.raises(ReadError, match="nothing to click on"):
        click_through(RedModel(), seen, index=0, most=20)


RED = MethodUnderTest("red", load=lambda switches: RedModel())


def test_groups_are_clicked_image_by_image(tmp_path):
    write_group(tmp_path / "data", "a", [0, 64])
    dataset = open_dataset("groups", tmp_path / "data")
    found = run(dataset, RED, Protocol(clicks=20), tmp_path / "out")
    first, second = found.results
    area = int(disk().sum())
    assert tuple(first.by_frame) == (1,)
    # The red channel is the answer to every click: 64 wrong pixels stay.
    assert second.by_frame == pytest.approx([area / (area + 64)] * len(second.by_frame))
    table = write_evaluation(found)
    text = as_text(table)
    assert "up to 20 clicks on each image, at its largest error; J at alpha 0.5" in text
    assert text.splitlines()[1].split() == [
        "samples",
        "J@1",
        "J@3",
        "J@5",
        "J@10",
        "NoC@85",
        "NoC@90",
        "drops",
    ]
    assert "after 1 click<" in (tmp_path / "out/index.html").read_text()


def test_clips_are_clicked_on_their_first_and_middle_frames(tmp_path):
    write_clip(tmp_path / "data", "c", [0] * 5, kind="masks")
    found = run(open_dataset("clips", tmp_path / "data"), RED, Protocol(clicks=5), tmp_path / "out")
    assert [result.name for result in found.results] == ["c/0000", "c/0002"]


def test_borders_of_grabcut_do_not_count(tmp_path):
    truth = disk()
    mask = codes(truth)
    mask[0] = 128  # the red channel is wrong here
    red = truth.copy()
    red[0] = 1
    image = np.stack([np.full_like(red, 0.4), 1 - 0.5 * truth, red], axis=2)
    for folder, pixels in (("data_GT", codes(image)), ("boundary_GT", mask)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), pixels)
    found = run(open_dataset("grabcut", tmp_path), RED, Protocol(clicks=20), tmp_path / "out")
    assert found.results[0].values["J@1"] == 1


def test_given_mattes_cannot_be_clicked(tmp_path):
    write_group(tmp_path / "data", "a", [0, 0])
    dataset = open_dataset("groups", tmp_path / "data")
    subject = MethodUnderTest("theirs", predictions=tmp_path)
    with pytest.raises(OptionError, match="give a model, not mattes"):
        run(dataset, subject, Protocol(clicks=20), tmp_path / "out")


def test_clicks_from_the_command_line(tmp_path):
    write_group(tmp_path / "data", "a", [0, 0])
    arguments = [
        "evaluate",
        "clicks",
        "groups",
        "--root",
        tmp_path / "data",
        "-o",
        tmp_path / "out",
    ]
    done = CliRunner().invoke(cli, [*map(str, arguments), "--clicks", "2", "--quiet", "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["protocol"]["clicks"] == 2
    assert 0 < summary["mean"]["J@1"] <= 1
    assert summary["mean"]["J@10"] is None


def test_each_image_is_marked_in_the_usual_ways(tmp_path):
    asked = []

    class Asked(RedModel):
        def with_reference(self, references):
            asked.extend(references)
            return super().with_reference(references)

    write_group(tmp_path / "data", "g", [0])
    subject = MethodUnderTest("red", load=lambda switches: Asked())
    found = run(
        open_dataset("groups", tmp_path / "data"),
        subject,
        Protocol(usual_prompts=True),
        tmp_path / "out",
    )
    # The model answers with the truth, whatever is marked.
    (result,) = found.results
    assert result.values == dict.fromkeys(("box", "box + point", "3 on, 1 off", "stroke"), 1.0)
    truth = disk(center=(24, 20)) > 0.5
    box, with_point, *drawn, stroke = asked
    assert len(drawn) == 5
    # All but the tight box is background: the truth touches each of its sides.
    free = box.known[0, 0].numpy() == 0
    rows, columns = np.nonzero(truth)
    assert free.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert free[truth].all()
    assert with_point.alpha[0, 0, 24, 20] == 1
    for reference in drawn:
        assert [mark.is_object for mark in reference.steps] == [True, True, True, False]
    painted = stroke.alpha[0, 0].numpy() > 0
    assert truth[painted].all()
    # It runs along the disk, from one side to the other.
    assert np.hypot(np.ptp(np.nonzero(painted)[0]), np.ptp(np.nonzero(painted)[1])) > 14


def test_a_stroke_follows_a_bent_object():
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[4:44, 4:14] = True
    truth[34:44, 4:60] = True
    corners = np.array(stroke_along(truth, 1))
    # From one end to the other, around the corner, always inside.
    assert truth[corners[:, 1].astype(int), corners[:, 0].astype(int)].all()
    assert corners[:, 1].min() < 12
    assert corners[:, 0].max() > 52
    assert (np.abs(np.diff(corners, axis=0)).sum(1) <= 2).all()


def test_a_stroke_along_a_body_does_not_follow_its_hair():
    truth = np.zeros((200, 300), bool)
    truth[80:120, 40:260] = True
    # One long thin thread beside the left end costs more steps than the whole body.
    for row in range(10, 80, 6):
        truth[row : row + 2, 20:70] = True
    truth[10:82, 68:70] = True
    corners = np.array(stroke_along(truth, 6))
    assert np.ptp(corners[:, 0]) > 180
    assert corners[:, 1].min() > 80


def test_usual_prompts_take_the_place_of_clicks(tmp_path):
    write_group(tmp_path, "g", [0])
    words = ["evaluate", "clicks", "groups", "--root", str(tmp_path), "--prompts", "--clicks", "3"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code != 0
    assert "--prompts takes the place of --clicks" in result.output
