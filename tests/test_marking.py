"""Marks that correct an answer one after the other."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from vidmatte import Prompt, load_model
from vidmatte.errors import PromptError
from vidmatte.model.compact.belonging import alike_to_mark, share_of_mark
from vidmatte.model.compact.marking import (
    Answer,
    MarkedFrame,
    _nested,
    _without_islands,
    next_answer,
    steps_of,
)
from vidmatte.model.compact.window import (
    crop_alpha,
    full_frame,
    grown,
    holds,
    inner_weight,
    paste,
)
from vidmatte.prompts.prompt import Mark, Stroke

HEIGHT, WIDTH = 180, 320
LEFT, RIGHT = (80, 90), (240, 90)
RADIUS = 34

pytestmark = pytest.mark.usefixtures("one_thread")


def disc(middle):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(x - middle[0], y - middle[1]) <= RADIUS


@pytest.fixture(scope="module")
def picture():
    """Two red discs on greenish noise, (1, 3, H, W)."""
    rng = np.random.default_rng(0)
    noise = rng.random((18, 32, 3), np.float32) * 0.3 + np.float32([0.1, 0.4, 0.2])
    scenery = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    scenery[disc(LEFT) | disc(RIGHT)] = [0.8, 0.1, 0.1]
    return torch.from_numpy(scenery).permute(2, 0, 1)[None].contiguous().clip(0, 1)


@pytest.fixture(scope="module")
def model():
    return load_model("compact", device="cpu", precision="float32", working_size=192)


def reference(picture, *points, **more):
    return Prompt(points=points, **more).reference(picture, frame=0)


def alpha_of(encoded):
    return encoded.marked.alpha


def answered(model, picture, alpha, *marks):
    """Return an answer that was `alpha`, corrected by further points, as (H, W)."""
    first = reference(picture, (*LEFT, 1))
    encoded = model.encode(first)
    frame = MarkedFrame(model, encoded.marked.rgb, None)
    height, width = frame.size
    window = full_frame(height, width)
    seen = crop_alpha(alpha.astype(np.float32), window, model.fitted_size(window))
    memory = model.memory_of(frame.features(window), seen)
    answer = Answer(first.steps, window, seen, 0.5, memory)
    asked = reference(picture, (*LEFT, 1), *marks)
    for step in steps_of(asked.steps, (HEIGHT, WIDTH), frame.size, done=1):
        answer = next_answer(frame, step, answer)
    return paste(answer.alpha, answer.window, height, width)


def test_marks_are_drawn_in_their_order():
    prompt = Prompt(
        points=((50, 20, 1), (52, 20, 0)),
        strokes=(Stroke(((10, 10), (30, 10)), 6, 1),),
        box=(2, 2, 90, 50),
    )
    drawn = prompt.reference(torch.zeros(1, 3, 60, 100))
    assert [mark.is_object for mark in drawn.steps] == [False, True, True, False]
    alpha, known = torch.zeros(60, 100), torch.zeros(60, 100)
    for mark in drawn.steps:
        mark.draw(alpha, known)
    assert torch.equal(alpha, drawn.alpha[0, 0])
    assert torch.equal(known, drawn.known[0, 0])
    # The later mark covers the earlier one.
    assert alpha[20, 52] == 0
    assert known[20, 52] == 1


def test_a_mark_off_the_object_waits_for_one_on_it():
    marks = (
        Prompt(points=((5, 5, 0), (30, 20, 1), (50, 20, 0)))
        .reference(torch.zeros(1, 3, 40, 80))
        .steps
    )
    steps = list(steps_of(marks, (40, 80), (40, 80)))
    assert [len(step.marks) for step in steps] == [2, 1]
    assert steps[0].off[5, 5] == 1
    assert steps[0].on[20, 30] == 1
    assert steps[1].on.max() == 0
    assert steps[1].drawn.known[20, 30] == 1


def test_a_box_is_answered_before_the_points_in_it():
    drawn = Prompt(points=((30, 20, 0), (40, 20, 1)), box=(10, 5, 70, 35)).reference(
        torch.zeros(1, 3, 40, 80)
    )
    steps = list(steps_of(drawn.steps, (40, 80), (40, 80)))
    assert [len(step.marks) for step in steps] == [1, 1, 1]


@pytest.mark.parametrize(
    "box", [(0, 0, 30, 20), (0, 20, 30, 60), (40, 0, 96, 40), (50, 30, 96, 72), (0, 0, 96, 72)]
)
def test_a_box_at_any_edges_of_the_frame_is_answered(model, picture, box):
    height, width = picture.shape[-2:]
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    marked = Prompt(box=box).reference(picture, frame=0)
    assert model.with_reference([marked]).references[0].confidence > 0


def test_the_answer_to_more_marks_begins_from_the_answer_to_fewer(model, picture):
    one = model.encode(reference(picture, (*LEFT, 1)))
    two = reference(picture, (*LEFT, 1), (160, 20, 0))
    continued = model.encode(two, after=one)
    replayed = model.encode(two)
    assert np.array_equal(alpha_of(continued), alpha_of(replayed))
    assert continued.confidence == replayed.confidence
    # Other marks do not begin those of the reference, and have no say.
    other = model.encode(reference(picture, (*RIGHT, 1)))
    assert np.array_equal(alpha_of(model.encode(two, after=other)), alpha_of(replayed))


def test_a_mark_off_the_object_takes_away_the_piece_it_lies_in(model, picture):
    both = disc(LEFT) | disc(RIGHT)
    after = answered(model, picture, both, (*RIGHT, 0))
    assert (after[disc(RIGHT)] < 0.5).all()
    # The other disc has a mark of its own.
    assert (after[disc(LEFT)] > 0.5).mean() > 0.9


def test_a_mark_on_the_object_adds_what_looks_alike_around_it(model, picture):
    after = answered(model, picture, disc(LEFT), (*RIGHT, 1))
    assert after[RIGHT[1], RIGHT[0]] > 0.5
    # Far more than the small disc of the mark itself.
    assert (after[disc(RIGHT)] > 0.5).sum() > 10 * 36
    # What another mark holds stays.
    assert (after[disc(LEFT)] > 0.5).mean() > 0.9


def test_a_mark_on_the_object_takes_nothing_away_that_marks_hold(model, picture):
    # The network alone takes the upper part of the frame for background.
    upper = np.zeros((HEIGHT, WIDTH), bool)
    upper[:40] = True
    upper[:90, 72:88] = True
    stray = np.zeros((HEIGHT, WIDTH), bool)
    stray[140:170, 140:170] = True
    held = upper | disc(LEFT)
    with_more = answered(model, picture, held | stray, (*RIGHT, 1))
    assert (with_more[held] > 0.5).mean() > 0.99
    # No mark holds this piece, and the network knows better.
    assert (with_more[stray] > 0.5).mean() < 0.5
    # A mark off the object may take some of it.
    with_less = answered(model, picture, held, (160, 20, 0))
    assert (with_less[:40] > 0.5).mean() < 0.5


def test_new_pieces_that_touch_no_mark_stay_out():
    before, after = np.zeros((2, 60, 100), np.float32)
    before[10:30, 10:30] = 1
    after[10:34, 10:34] = 1
    after[40:50, 60:70] = 0.8
    after[40:50, 80:90] = 0.8
    on = np.zeros((60, 100), bool)
    on[44:46, 84:86] = True
    kept = _without_islands(after, before, on)
    assert np.array_equal(kept[:38], after[:38])
    assert (kept[:, 60:70] == 0).all()
    assert (kept[40:50, 80:90] == np.float32(0.8)).all()


@pytest.mark.parametrize("points", [[(160, 90, 1)], [(160, 90, 1), (60, 60, 1), (280, 20, 0)]])
def test_no_matte_ends_at_the_edge_of_its_window(model, points):
    # Of an even picture any window cuts something.
    gray = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    for prompt in (
        Prompt(points=tuple(points)),
        Prompt(points=tuple(points), box=(20, 20, 300, 160)),
    ):
        encoded = model.encode(prompt.reference(gray, frame=0))
        x, y, wide, tall = encoded.window
        alpha = encoded.predicted
        edges = []
        edges += [alpha[0]] if y > 0 else []
        edges += [alpha[-1]] if y + tall < HEIGHT else []
        edges += [alpha[:, 0]] if x > 0 else []
        edges += [alpha[:, -1]] if x + wide < WIDTH else []
        assert all(edge.max() <= 0.1 for edge in edges)


def test_marks_share_a_picture_along_its_outlines():
    # Two halves that look nothing alike, 2/3 and 1/3 of the picture.
    keys = torch.zeros(1, 2, 12, 24)
    keys[:, 0, :, :16] = 1
    keys[:, 1, :, 16:] = 1
    mine, theirs = np.zeros((96, 192), bool), np.zeros((96, 192), bool)
    mine[40:48, 8:16] = True
    theirs[40:48, 176:184] = True
    share = share_of_mark(keys, torch.from_numpy(mine), torch.from_numpy(theirs))
    assert (share[:, :124] > 0.5).all()
    assert (share[:, 132:] < 0.5).all()
    assert (share_of_mark(keys, torch.from_numpy(mine), torch.zeros(96, 192)) == 1).all()


def test_large_maps_are_shared_at_half_their_size():
    keys = torch.ones(1, 2, 48, 84)
    mine, theirs = torch.zeros(384, 672), torch.zeros(384, 672)
    mine[180:200, 20:40] = 1
    theirs[180:200, 632:652] = 1
    share = share_of_mark(keys, mine, theirs)
    assert share.shape == (384, 672)
    # An even picture is shared half-way.
    assert (share[:, :320] > 0.5).all()
    assert (share[:, 352:] < 0.5).all()


def test_what_looks_like_a_mark_is_alike():
    keys = torch.zeros(1, 2, 10, 20)
    keys[:, 0, :, :10] = 1
    keys[:, 1, :, 10:] = 1
    mine = torch.zeros(80, 160)
    mine[30:40, 10:20] = 1
    alike = alike_to_mark(keys, mine)
    assert (alike[:, :76] == 1).all()
    assert (alike[:, 84:] == 0).all()
    assert (alike_to_mark(keys, torch.zeros(80, 160)) == 0).all()


def test_windows_hold_what_keeps_clear_of_their_edges():
    alpha = np.zeros((90, 160), np.float32)
    alpha[40:50, 60:70] = 1
    assert holds((40, 30, 64, 36), alpha)
    assert not holds((61, 30, 64, 36), alpha)
    # Edges of the frame do not count.
    alpha[0:5, 60:70] = 1
    assert holds((0, 0, 160, 90), alpha)
    assert holds((40, 0, 96, 54), alpha)
    assert grown((40, 30, 64, 36), 90, 160) == (24, 21, 96, 54)
    assert grown((20, 10, 100, 56), 90, 160) == (0, 0, 160, 90)


def test_a_window_counts_less_towards_its_edges_but_not_at_those_of_the_frame():
    weight = inner_weight((0, 10, 80, 45), (100, 180), 90, 160)
    assert weight.shape == (100, 180)
    assert (weight[0] == 0).all()
    assert (weight[-1] == 0).all()
    assert (weight[50, :100] == 1).all()
    assert weight[50, -1] == 0


@dataclasses.dataclass
class Found:
    alpha: np.ndarray


def test_answers_are_nested_by_size_and_the_surest_is_the_object():
    def square(side):
        alpha = np.zeros((90, 160), np.float32)
        alpha[:side, :side] = 1
        return (full_frame(90, 160), Found(alpha))

    offered = _nested([square(40), square(42), square(20), square(10), square(80)], (90, 160))
    assert list(offered) == ["part", "object", "group"]
    assert [int((found.alpha[0] > 0).sum()) for _, found in offered.values()] == [20, 40, 80]
    # Two that nearly agree are one answer.
    assert list(_nested([square(40), square(42)], (90, 160))) == ["object"]


def test_the_extent_of_a_prompt_chooses_among_the_answers(model, picture):
    any_extent = model.encode(reference(picture, (*LEFT, 1)))
    for extent in any_extent.extents:
        encoded = model.encode(reference(picture, (*LEFT, 1), extent=extent))
        assert encoded.extent == extent
        assert encoded.extents == any_extent.extents
    assert any_extent.extent == "object"


def test_an_extent_is_checked():
    with pytest.raises(PromptError, match="choose one of part, object, group"):
        Prompt(points=((1, 1, 1),), extent="all")
    with pytest.raises(PromptError, match="box, which says how large the object is"):
        Prompt(box=(1, 1, 5, 5), extent="part")


def test_marks_are_compared_by_what_they_draw():
    one = Mark(torch.ones(3, 4, dtype=torch.int8), 5, 6)
    assert one.is_same(Mark(torch.ones(3, 4, dtype=torch.int8), 5, 6))
    assert not one.is_same(Mark(torch.zeros(3, 4, dtype=torch.int8), 5, 6))
    assert not one.is_same(Mark(torch.ones(3, 4, dtype=torch.int8), 5, 7))
