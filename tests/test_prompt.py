import json

import cv2
import numpy as np
import pytest
import torch

from vidmatte.errors import PromptError, ReadError
from vidmatte.prompts.files import load_prompts, save_prompts
from vidmatte.prompts.prompt import Prompt, Stroke, parse_box, parse_points

RGB = torch.zeros(1, 3, 90, 160)


def planes(reference):
    return reference.alpha[0, 0].numpy(), reference.known[0, 0].numpy()


def test_one_click_makes_a_region():
    reference = Prompt(points=((80, 45, 1),)).reference(RGB, frame=0)
    alpha, known = planes(reference)
    assert alpha[45, 80] == known[45, 80] == 1
    assert known.sum() == reference.roi.sum() >= 5  # a disc, not a pixel
    ys, xs = np.nonzero(known)
    assert (ys.mean(), xs.mean()) == (45, 80)
    assert not reference.is_complete


@pytest.mark.parametrize("corner", [(0, 0), (159, 0), (0, 89), (159, 89)])
def test_clicks_in_the_corners_count(corner):
    _, known = planes(Prompt(points=((*corner, 1),)).reference(RGB))
    assert known[corner[1], corner[0]] == 1


@pytest.mark.parametrize("point", [(159.7, 50), (80, 89.6), (159.99, 89.99)])
def test_points_in_the_last_pixel_count(point):
    _, known = planes(Prompt(points=((*point, 1),)).reference(RGB))
    assert known[int(point[1]), int(point[0])] == 1


def test_thin_strokes_survive_on_anamorphic_frames():
    stroke = Stroke(((20, 40), (120, 40)), width=1)
    alpha, _ = planes(Prompt(strokes=(stroke,)).reference(RGB, display_width=320))
    assert alpha[40, 12:59].all()


def test_points_are_x_then_y_and_background_is_known_to_be_none():
    alpha, known = planes(Prompt(points=((120, 20, 1), (30, 70, 0))).reference(RGB))
    assert (alpha[20, 120], known[20, 120]) == (1, 1)
    assert (alpha[70, 30], known[70, 30]) == (0, 1)
    assert known[45, 80] == 0


def test_points_of_anamorphic_frames_are_displayed_pixels():
    _, known = planes(Prompt(points=((200, 45, 1),)).reference(RGB, display_width=320))
    assert known[45, 100] == 1


def test_stroke_has_the_width_of_its_brush():
    stroke = Stroke(((20, 40), (120, 40)), width=9)
    alpha, _ = planes(Prompt(strokes=(stroke,)).reference(RGB))
    assert alpha[:, 70].sum() == 9
    assert alpha[40, 20:121].all()


def test_box_makes_its_outside_background():
    alpha, known = planes(Prompt(box=(40, 20, 100, 60)).reference(RGB))
    assert known[20:60, 40:100].sum() == 0
    assert known.sum() == 90 * 160 - 40 * 60
    assert alpha.sum() == 0


def test_points_inside_a_box_join_it():
    alpha, known = planes(Prompt(box=(40, 20, 100, 60), points=((70, 40, 1),)).reference(RGB))
    assert alpha[40, 70] == known[40, 70] == 1
    assert known[25, 45] == 0


def write(path, image):
    cv2.imwrite(str(path), image)
    return path


def test_mask_is_alpha_and_known_everywhere(tmp_path):
    mask = np.zeros((90, 160), np.uint8)
    mask[10:50, 30:90] = 255
    mask[50, 30:90] = 51
    reference = Prompt(mask=write(tmp_path / "m.png", mask)).reference(RGB)
    alpha, _ = planes(reference)
    assert reference.is_complete
    assert np.allclose(alpha, mask / 255)
    assert reference.roi.sum() == 40 * 60


def test_mask_of_a_cut_out_is_its_opacity(tmp_path):
    image = np.full((90, 160, 4), 20, np.uint8)  # a dark object
    image[..., 3] = 0
    image[10:20, 10:20, 3] = 255
    alpha, _ = planes(Prompt(mask=write(tmp_path / "m.png", image)).reference(RGB))
    assert alpha.sum() == 100


@pytest.mark.parametrize(
    ("bgra", "label"), [((255, 255, 255), 1), ((0, 255, 0), 1), ((0, 0, 255), 0), ((0, 0, 0), 0)]
)
def test_colours_of_scribbles_are_labels(tmp_path, bgra, label):
    image = np.zeros((90, 160, 4), np.uint8)
    image[5:9, 5:9] = (255, 255, 255, 255)  # an object stroke, so that the prompt is complete
    image[30:40, 50:80] = (*bgra, 255)
    alpha, known = planes(Prompt(scribbles=write(tmp_path / "s.png", image)).reference(RGB))
    assert known[30:40, 50:80].all()
    assert (alpha[30:40, 50:80] == label).all()
    assert known.sum() == 16 + 300


def test_a_saved_prompt_file_is_read_back(tmp_path):
    write(tmp_path / "m.png", np.full((90, 160), 255, np.uint8))
    objects = {
        "dog": (
            Prompt(frame=0, points=((1.5, 2.0, 1), (3.0, 4.0, 0)), box=(1.0, 2.0, 30.0, 40.0)),
            Prompt(
                frame=7,
                strokes=(Stroke(((1.0, 2.0), (3.0, 4.0)), 5.0, 0),),
                mask=tmp_path / "m.png",
            ),
        ),
        "cat": (Prompt(frame=3, points=((9.0, 9.0, 1),)),),
    }
    save_prompts(tmp_path / "p.json", objects, source="clip.mp4")
    assert load_prompts(tmp_path / "p.json") == objects


def test_points_and_boxes_are_parsed():
    assert parse_points("640,360 700.5,410,1  80,40,0") == (
        (640, 360, 1),
        (700.5, 410, 1),
        (80, 40, 0),
    )
    assert parse_box("1,2,3.5,4") == (1, 2, 3.5, 4)


@pytest.mark.parametrize("text", ["", "640", "640,", "a,b", "1,2,3,4", "1,2,x", "640;360"])
def test_malformed_points_are_refused(text):
    with pytest.raises(PromptError, match="write"):
        parse_points(text)


@pytest.mark.parametrize(
    "point", [(160, 10), (-1, 10), (10, 90), (10, -0.5), (float("nan"), 10), (float("inf"), 1)]
)
def test_points_outside_the_frame_are_refused_with_its_size(point):
    with pytest.raises(PromptError, match="outside the frame of 160x90"):
        Prompt(points=((*point, 1),)).reference(RGB)


@pytest.mark.parametrize(
    "box", [(100, 20, 40, 60), (40, 20, 400, 60), (-3, 0, 10, 10), (5, 5, 5, 9)]
)
def test_boxes_outside_the_frame_are_refused(box):
    with pytest.raises(PromptError, match="does not fit the frame of 160x90"):
        Prompt(box=box).reference(RGB)


def test_background_alone_marks_nothing():
    with pytest.raises(PromptError, match="only background is marked"):
        Prompt(points=((5, 5, 0),)).reference(RGB)


def test_an_empty_prompt_is_refused():
    with pytest.raises(PromptError, match="nothing is marked"):
        Prompt()


def test_a_mask_of_another_size_is_refused(tmp_path):
    mask = write(tmp_path / "m.png", np.full((45, 80), 255, np.uint8))
    with pytest.raises(PromptError, match="is 80x45, but the frame is 160x90"):
        Prompt(mask=mask).reference(RGB)


def test_an_empty_mask_is_refused(tmp_path):
    mask = write(tmp_path / "m.png", np.full((90, 160), 38, np.uint8))
    with pytest.raises(PromptError, match=r"mask is empty \(brightest value 0.15 of 1\)"):
        Prompt(mask=mask).reference(RGB)


def test_a_mask_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "m.png").write_bytes(b"not an image")
    with pytest.raises(ReadError, match=r"m.png: is not an image"):
        Prompt(mask=tmp_path / "m.png").reference(RGB)


GOOD = {"version": 1, "objects": [{"name": "a", "prompts": [{"frame": 0, "points": [[1, 2, 1]]}]}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version 3"),
        ({"objects": []}, "holds no marks"),
        ({"objects": [{"name": "a", "prompts": []}]}, "holds no marks"),
        ({"objects": [{"name": "a"}]}, "does not have the layout"),
        (
            {"objects": [{"name": "a", "prompts": [{"point": [[1, 2]]}]}]},
            "key 'point' is not known",
        ),
        (
            {"objects": [{"name": "a", "prompts": [{"points": [["x", 2]]}]}]},
            "does not have the layout",
        ),
        ({"objects": [{"name": "a", "prompts": [{"points": [[1, 2, 7]]}]}]}, r"labels \[7\]"),
        ({"objects": 3}, "does not have the layout"),
        ({"objects": [{"name": "a", "prompts": [{"box": [1, 2]}]}]}, "does not have the layout"),
        ({"objects": [{"name": "a", "prompts": [{"points": [[1]]}]}]}, "does not have the layout"),
        (
            {"objects": [{"name": "a", "prompts": [{"strokes": [{"points": [], "width": 3}]}]}]},
            "stroke of 0 points",
        ),
        ({"objects": [GOOD["objects"][0], GOOD["objects"][0]]}, "two objects have the same name"),
    ],
)
def test_prompt_files_of_another_layout_are_refused(tmp_path, change, message):
    (tmp_path / "p.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(PromptError, match=message):
        load_prompts(tmp_path / "p.json")


def test_a_prompt_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(PromptError, match="is not JSON"):
        load_prompts(tmp_path / "p.json")
