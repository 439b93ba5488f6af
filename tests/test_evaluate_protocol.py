"""What is marked, on which images, with which seed."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from evaluation import HEIGHT, WIDTH, disk, write_clip, write_group

from vidmatte.datasets import open_dataset
from vidmatte.errors import OptionError, ReadError
from vidmatte.evaluate import Protocol
from vidmatte.evaluate.measures import CLIP, ClipScore
from vidmatte.evaluate.prompts import draw_reference
from vidmatte.evaluate.protocol import make_plan
from vidmatte.metrics import conn, dtssd, grad, mad, messddt

RGB = torch.zeros(1, 3, HEIGHT, WIDTH)


@pytest.fixture
def groups(tmp_path):
    for name, count in (("a", 6), ("b", 3), ("c", 2)):
        write_group(tmp_path, name, [0] * count)
    return open_dataset("groups", tmp_path)


def test_references_are_fixed_per_group_and_do_not_count(groups):
    plan = make_plan(groups, Protocol(), rounds=3)
    assert len(plan.parts) == 9
    assert plan.samples == 3 * (5 + 2 + 1)
    for group in range(3):
        chosen = {part.references for part in plan.parts if part.index == group}
        assert len(chosen) == 1
    for part in plan.parts:
        everything = sorted((*part.references, *part.targets))
        assert everything == list(range(len(groups.groups[part.index].images)))
    assert make_plan(groups, Protocol(), rounds=3).parts == plan.parts
    others = {
        make_plan(groups, Protocol(seed=seed), rounds=1).parts[0].references for seed in range(20)
    }
    assert len(others) > 2


def test_each_round_may_have_references_of_its_own(groups):
    plan = make_plan(groups, Protocol(draw_references=True), rounds=12)
    assert len({part.references for part in plan.parts if part.index == 0}) > 2


def test_more_references_leave_out_small_groups_and_say_so(groups):
    plan = make_plan(groups, Protocol(references=2), rounds=1)
    assert [len(part.targets) for part in plan.parts] == [4, 1]
    assert plan.notes == ("groups of at most 2 images are left out: 1",)
    message = "expected groups of more than 6 images for 6 references, found none in groups"
    with pytest.raises(OptionError, match=message):
        make_plan(groups, Protocol(references=6), rounds=1)


def test_runs_with_more_and_fewer_references_are_measured_on_the_same_images(groups):
    few, many = (
        make_plan(groups, Protocol(references=n, kept_out=2), rounds=1).parts for n in (1, 2)
    )
    assert [part.targets for part in few] == [part.targets for part in many]
    assert all(a.references == b.references[:1] for a, b in zip(few, many, strict=True))


def test_a_group_with_one_image_is_named(groups, tmp_path):
    write_group(tmp_path, "lonely", [0])
    dataset = open_dataset("groups", tmp_path)
    with pytest.raises(
        ReadError, match=r"group 'lonely' holds one image, image\.png.*--guidance each"
    ):
        make_plan(dataset, Protocol(), rounds=1)
    plan = make_plan(dataset, Protocol(guidance="each"), rounds=1)
    assert plan.samples == 12
    assert not any(part.references for part in plan.parts)


def test_images_of_their_own_are_marked_themselves(tmp_path):
    for name in ("x", "y"):
        write_group(tmp_path, name, [0])
    assert make_plan(open_dataset("groups", tmp_path), Protocol(), rounds=1).guidance == "each"


def test_frames_of_clips(tmp_path):
    write_clip(tmp_path, "c", [0] * 9)
    dataset = open_dataset("clips", tmp_path)
    (part,) = make_plan(dataset, Protocol(), rounds=1).parts
    assert (part.references, part.targets) == ((0,), tuple(range(1, 9)))
    (part,) = make_plan(dataset, Protocol(references=3, frames=7), rounds=1).parts
    assert (part.references, part.targets) == ((0, 2, 4), (1, 3, 5, 6))
    (part,) = make_plan(dataset, Protocol(frames=1), rounds=1).parts
    assert (part.references, part.targets) == ((0,), (0,))


def test_published_choices_of_frames_are_the_default(tmp_path):
    write_clip(tmp_path, "c", [0] * 5)
    dataset = open_dataset("clips", tmp_path)
    counted = {
        "videomatte": ("count", "count", (0, 1, 2, 3, 4)),
        "davis": ("skip", "skip", (1, 2, 3)),
        "clips": ("skip", "count", (1, 2, 3, 4)),
    }
    for first, last, frames in counted.values():
        chosen = replace(dataset, first_frame=first, last_frame=last)
        (part,) = make_plan(chosen, Protocol(), rounds=1).parts
        assert (part.references, part.targets) == ((0,), frames)
        # What is asked for goes before.
        asked = Protocol(first_frame="skip", last_frame="skip")
        assert make_plan(chosen, asked, rounds=1).parts[0].targets == (1, 2, 3)


def test_clicks_are_on_first_and_middle_frames(tmp_path):
    write_clip(tmp_path, "c", [0] * 9)
    plan = make_plan(open_dataset("clips", tmp_path), Protocol(clicks=20), rounds=1)
    assert [(part.references, part.targets) for part in plan.parts] == [((), (0, 4))]
    assert plan.samples == 2


@pytest.mark.parametrize(
    "choices",
    [
        {"prompt": "box"},
        {"rounds": 0},
        {"guidance": "some"},
        {"prompt": "trimap", "guidance": "group"},
        {"seed": -1},
    ],
)
def test_choices_that_are_not_offered_are_refused(choices):
    with pytest.raises(OptionError):
        Protocol(**choices)


@pytest.mark.parametrize(
    "choices", [{"guidance": "each"}, {"region": "whole"}, {"draw_references": True}]
)
def test_choices_of_images_are_refused_for_clips(tmp_path, choices):
    write_clip(tmp_path, "c", [0, 0])
    with pytest.raises(OptionError, match=r"holds clips; leave it out"):
        make_plan(open_dataset("clips", tmp_path), Protocol(**choices), rounds=1)


def test_choices_that_images_do_not_allow_are_refused(groups):
    with pytest.raises(OptionError, match="has no trimap"):
        make_plan(groups, Protocol(region="unknown"), rounds=1)
    with pytest.raises(OptionError, match="frames 2 was given, but groups holds images"):
        make_plan(groups, Protocol(frames=2), rounds=1)


def marked(kind, truth, seed=0, **given):
    reference = draw_reference(kind, RGB, truth, np.random.default_rng(seed), frame=3, **given)
    assert reference.frame == 3
    return reference.alpha[0, 0].numpy(), reference.known[0, 0].numpy()


def test_a_mask_is_above_half_of_the_largest_value():
    alpha, known = marked("mask", 0.6 * disk() + 0.25 * (1 - disk()))
    assert known.all()
    assert np.array_equal(alpha, disk())


@pytest.mark.parametrize("kind", ["points", "scribble"])
@pytest.mark.parametrize("seed", range(5))
def test_marks_lie_on_their_side(kind, seed):
    truth = disk()
    alpha, known = marked(kind, truth, seed)
    assert set(np.unique(alpha[known == 0])) == {0}
    assert (truth[(known > 0) & (alpha > 0.5)] == 1).all()
    assert (truth[(known > 0) & (alpha <= 0.5)] == 0).all()
    assert ((known > 0) & (alpha > 0.5)).any()
    assert ((known > 0) & (alpha <= 0.5)).any()
    assert np.array_equal(alpha, marked(kind, truth, seed)[0])
    assert not np.array_equal(known, marked(kind, truth, seed + 100)[1])


def test_strokes_are_longer_than_clicks():
    lengths = []
    for kind in ("points", "scribble"):
        alpha, _ = marked(kind, disk(20))
        boxes = cv2.connectedComponentsWithStats((alpha > 0).astype(np.uint8))[2][1:]
        lengths.append(max(boxes[:, cv2.CC_STAT_WIDTH].max(), boxes[:, cv2.CC_STAT_HEIGHT].max()))
    assert lengths[0] <= 3 < 6 <= lengths[1]


def test_a_wire_can_be_marked():
    truth = np.zeros((HEIGHT, WIDTH), np.float32)
    truth[20:22] = 1
    for kind in ("points", "scribble"):
        alpha, _ = marked(kind, truth)
        assert (alpha > 0.5).any()


def test_a_trimap_is_that_of_the_data_set_or_a_band_around_what_is_soft():
    truth, unknown = disk(), np.zeros((HEIGHT, WIDTH), bool)
    unknown[:, 30:34] = True
    alpha, known = marked("trimap", truth, unknown=unknown)
    assert np.array_equal(known, (~unknown).astype(np.float32))
    assert np.array_equal(alpha, truth * ~unknown)
    soft = truth.copy()
    soft[24, 40] = 0.5
    alpha, known = marked("trimap", soft)
    assert known[24, 40] == 0
    assert known[0, 0] == known[24, 24] == alpha[24, 24] == 1
    assert alpha[0, 0] == 0


def test_what_cannot_be_marked_is_said():
    with pytest.raises(ReadError, match="shows no object"):
        marked("mask", np.zeros((HEIGHT, WIDTH), np.float32))
    with pytest.raises(ReadError, match="fills the image"):
        marked("points", np.ones((HEIGHT, WIDTH), np.float32))


def test_a_clip_added_up_by_frames_is_the_measure_of_the_whole_clip():
    rng = np.random.default_rng(0)
    truth = np.stack([disk(radius) for radius in (8, 10, 12, 13)])
    found = np.clip(truth + rng.normal(0, 0.2, truth.shape), 0, 1).astype(np.float32)
    gray = rng.integers(0, 255, (HEIGHT, WIDTH), np.uint8)  # a still picture: no motion
    score = ClipScore(CLIP)
    for frame in range(4):
        score.add(found[frame], truth[frame], gray)
    still = np.zeros((3, HEIGHT, WIDTH, 2), np.float32)
    expected = {
        "MAD": 1000 * mad(found, truth),
        "Grad": grad(found, truth),
        "Conn": conn(found, truth),
        "dtSSD": dtssd(found, truth),
        "MESSDdt": messddt(found, truth, still),
    }
    assert {name: score.values[name] for name in expected} == pytest.approx(expected)


def test_a_plan_can_be_written_down(groups):
    assert json.loads(json.dumps(Protocol(prompt="points").as_json()))["prompt"] == "points"
