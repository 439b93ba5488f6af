"""Every layout, from folders made here, and what is said of folders that are laid out otherwise."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest

from vidmatte.datasets import DATASETS, open_dataset, read_unknown
from vidmatte.errors import OptionError, ReadError


def put(path, value=255, size=(6, 8)):
    """A plain image (or a given array) at a path, whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(
        str(path), value if isinstance(value, np.ndarray) else np.full(size, value, np.uint8)
    )
    return path


def layout(root, names, folders=("image", "alpha", "trimap")):
    for folder in folders:
        for name in names:
            put(root / folder / f"{name}{'.jpg' if folder in ('image', 'original') else '.png'}")


def names(dataset):
    return {group.name: [sample.name for sample in group.images] for group in dataset.groups}


def test_icm57_groups_by_class_sub_class_and_extent(tmp_path):
    layout(tmp_path / "ICM57", ["a", "b", "c", "d"])
    record = {"dataset_name": "ICM57", "class": "animal", "sub_class": "dog", "HalfOrFull": "full"}
    records = {
        "a": record,
        "b": {**record, "HalfOrFull": "half"},
        "c": record,
        "d": {**record, "sub_class": None, "HalfOrFull": "half"},
    }
    (tmp_path / "ICM57.json").write_text(json.dumps(records))
    dataset = open_dataset("icm57", tmp_path / "ICM57")
    assert names(dataset) == {
        "animal-dog-full": ["a", "c"],
        "animal-dog-half": ["b"],
        "animal-half": ["d"],
    }
    sample = dataset.groups[0].images[0]
    assert (sample.image.name, sample.alpha.name, sample.trimap.parent.name) == (
        "a.jpg",
        "a.png",
        "trimap",
    )
    assert sample.is_matting


def test_icm57_needs_its_file_of_classes(tmp_path):
    layout(tmp_path, ["a"], ("image", "alpha"))
    with pytest.raises(ReadError, match=r"looked for ICM57\.json or .* found alpha/, image/"):
        open_dataset("icm57", tmp_path)


def test_aim500_has_groups_of_one_unless_a_file_says_otherwise(tmp_path):
    layout(tmp_path, ["o_1", "o_2"], ("original", "mask", "trimap"))
    assert names(open_dataset("aim500", tmp_path)) == {"o_1": ["o_1"], "o_2": ["o_2"]}
    (tmp_path / "groups.json").write_text(json.dumps({"cats": ["o_2", "o_1"]}))
    assert names(open_dataset("aim500", tmp_path)) == {"cats": ["o_1", "o_2"]}


def test_rm1k_is_read_by_its_layout(tmp_path):
    layout(tmp_path, ["1", "2"], ("merged", "alpha"))
    (tmp_path / "RM1K.json").write_text(json.dumps({"x": ["1", "2"]}))
    # The pictures of this layout are PNG here: endings do not matter.
    assert open_dataset("rm1k", tmp_path).groups[0].images[0].trimap is None


def test_open_images_joins_the_masks_of_a_label(tmp_path):
    for image in ("p", "q", "r"):
        put(tmp_path / "images" / f"{image}.jpg", size=(6, 8))
    left, right = np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint8)
    left[:, 0], right[:, 3] = 255, 255
    put(tmp_path / "masks" / "p_m01_aa.png", left)
    put(tmp_path / "masks" / "p_m01_bb.png", right)
    put(tmp_path / "masks" / "q_m01_cc.png", left)
    put(tmp_path / "masks" / "r_m02_dd.png", left)
    dataset = open_dataset("open-images", tmp_path)
    assert names(dataset) == {"m01": ["p", "q"]}  # of m02 there is one image only
    both = dataset.groups[0].images[0].read_alpha((6, 8))
    assert both.shape == (6, 8)
    assert both[:, 0].all()
    assert both[:, -1].all()
    assert not both[:, 3:5].any()
    assert not dataset.groups[0].is_matting


def test_alphamatting_is_read_by_its_layout(tmp_path):
    for folder in ("input_training_lowres", "gt_training_lowres", "trimap_training_lowres/Trimap1"):
        put(tmp_path / folder / "GT01.png")
    (group,) = open_dataset("alphamatting", tmp_path).groups
    assert group.images[0].trimap == tmp_path / "trimap_training_lowres/Trimap1/GT01.png"


def test_plain_groups_take_three_forms(tmp_path):
    put(tmp_path / "alone" / "image.jpg")
    put(tmp_path / "alone" / "alpha.png")
    for name in ("one", "two"):
        put(tmp_path / "folders" / name / "image.png")
        put(tmp_path / "folders" / name / "alpha.png")
        put(tmp_path / "pairs" / f"{name}.jpg")
        put(tmp_path / "pairs" / f"{name}_alpha.png")
    put(tmp_path / "pairs" / "one_trimap.png")
    dataset = open_dataset("groups", tmp_path)
    assert names(dataset) == {
        "alone": ["alone"],
        "folders": ["one", "two"],
        "pairs": ["one", "two"],
    }
    assert [sample.trimap is not None for sample in dataset.groups[2].images] == [True, False]


def test_plain_groups_name_an_image_without_truth(tmp_path):
    put(tmp_path / "pairs" / "one.jpg")
    with pytest.raises(ReadError, match=r"one\.jpg: has no truth; looked for one_alpha"):
        open_dataset("groups", tmp_path)


def test_videomatte_and_youtubematte_are_read_by_their_layout(tmp_path):
    for part in ("videomatte_motion", "videomatte_static"):
        for frame in ("0000", "0001"):
            put(tmp_path / "vm" / part / "0000" / "com" / f"{frame}.jpg")
            put(tmp_path / "vm" / part / "0000" / "pha" / f"{frame}.png")
    dataset = open_dataset("videomatte", tmp_path / "vm")
    assert [clip.name for clip in dataset.clips] == [
        "videomatte_motion/0000",
        "videomatte_static/0000",
    ]
    assert [path.name for path in dataset.clips[0].frames] == ["0000.jpg", "0001.jpg"]
    one_part = open_dataset("videomatte", tmp_path / "vm" / "videomatte_motion")
    assert [clip.name for clip in one_part.clips] == ["0000"]

    root = tmp_path / "YouTubeMatte" / "youtubematte_512x288"
    put(root / "youtubematte_static" / "0003" / "har" / "0000.png")
    put(root / "youtubematte_static" / "0003" / "pha" / "0000.png")
    assert open_dataset("youtubematte", root).clips[0].first_mask is None
    mask = put(tmp_path / "YouTubeMatte_first_frame_seg_mask" / root.name / "0003.png")
    assert open_dataset("youtubematte", root).clips[0].first_mask == mask


def write_palette_png(path, indices, colors):
    """Write an 8-bit palette PNG like the annotations of DAVIS; by hand, as OpenCV writes none."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in indices.astype(np.uint8))
    chunks = [
        (b"IHDR", header),
        (b"PLTE", bytes(sum(colors, ()))),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks))


@pytest.mark.parametrize(
    "line", ["bear", "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png"]
)
def test_davis_takes_the_listed_clips_and_all_their_objects(tmp_path, line):
    indices = np.zeros((6, 8), np.uint8)
    indices[0, 0], indices[1, 1] = 1, 2
    for clip in ("bear", "dog"):
        put(tmp_path / "JPEGImages/480p" / clip / "00000.jpg")
        annotation = tmp_path / "Annotations/480p" / clip / "00000.png"
        write_palette_png(annotation, indices, [(0, 0, 0), (128, 0, 0), (0, 64, 0)])
    assert [clip.name for clip in open_dataset("davis", tmp_path).clips] == ["bear", "dog"]
    (tmp_path / "ImageSets/2016").mkdir(parents=True)
    (tmp_path / "ImageSets/2016/val.txt").write_text(f"{line}\n")
    (clip,) = open_dataset("davis", tmp_path).clips
    assert clip.name == "bear"
    assert clip.read_alpha(0, (6, 8)).sum() == 2


def write_davis(root, clips, lists):
    """Clips of two frames with objects 1 and 2, and lists of some of them."""
    indices = np.zeros((6, 8), np.uint8)
    indices[0, 0] = 1
    indices[1, 1:3] = 2
    for clip in clips:
        for frame in ("00000", "00001"):
            put(root / "JPEGImages/480p" / clip / f"{frame}.jpg")
            annotation = root / "Annotations/480p" / clip / f"{frame}.png"
            write_palette_png(annotation, indices, [(0, 0, 0), (128, 0, 0), (0, 128, 0)])
    for name, lines in lists.items():
        (root / "ImageSets" / name).mkdir(parents=True)
        (root / "ImageSets" / name / "val.txt").write_text("\n".join(lines) + "\n")


def test_davis_2016_scores_its_validation_clips_only(tmp_path):
    # Each line of its list names the frame and the annotation.
    lines = [
        f"/JPEGImages/480p/bear/0000{n}.jpg /Annotations/480p/bear/0000{n}.png" for n in range(2)
    ]
    write_davis(tmp_path, ["bear", "train"], {"480p": lines})
    dataset = open_dataset("davis", tmp_path)
    assert [clip.name for clip in dataset.clips] == ["bear"]
    assert (dataset.first_frame, dataset.last_frame) == ("skip", "skip")


def test_davis_with_lists_of_another_kind_is_refused(tmp_path):
    write_davis(tmp_path, ["bear"], {"2019": ["bear"]})
    with pytest.raises(ReadError, match=r"expected the list of the clips to score, 480p/val\.txt"):
        open_dataset("davis", tmp_path)


def test_davis_2017_has_a_clip_for_each_object(tmp_path):
    write_davis(tmp_path, ["bear", "train"], {"2017": ["bear"], "2016": ["train"]})
    first, second = open_dataset("davis2017", tmp_path).clips
    assert (first.name, second.name) == ("bear/1", "bear/2")
    assert first.read_alpha(0, (6, 8)).sum() == 1
    assert second.read_alpha(1, (6, 8)).sum() == 2


def test_videomatte_takes_the_first_masks_of_matanyone(tmp_path):
    root = tmp_path / "VideoMatte" / "videomatte_512x288"
    masks = tmp_path / "VideoMatte_first_frame_seg_mask" / root.name
    for part in ("videomatte_motion", "videomatte_static"):
        put(root / part / "0000" / "com" / "0000.png")
        put(root / part / "0000" / "pha" / "0000.png")
        put(masks / part / "0000.png")
    found = {clip.name: clip.first_mask for clip in open_dataset("videomatte", root).clips}
    assert found == {
        f"{part}/0000": masks / part / "0000.png"
        for part in ("videomatte_motion", "videomatte_static")
    }
    (clip,) = open_dataset("videomatte", root / "videomatte_motion").clips
    assert clip.first_mask == masks / "videomatte_motion" / "0000.png"
    (masks / "videomatte_static" / "0000.png").unlink()
    with pytest.raises(ReadError, match="the first mask of 0000 is missing"):
        open_dataset("videomatte", root)


def test_crgnn_has_the_truth_of_every_tenth_frame(tmp_path):
    for frame in range(12):
        put(tmp_path / "image_allframe" / "a" / f"{frame:04d}.png")
    for index, name in enumerate(("00001", "00011")):
        put(tmp_path / "alpha" / "a" / f"{name}.png", 51 * (index + 1))
    mask = put(tmp_path / "mask" / "a.png")
    (clip,) = open_dataset("crgnn", tmp_path).clips
    assert clip.frames_with_truth == (0, 10)
    assert clip.read_alpha(10, (6, 8)).max() == pytest.approx(0.4)
    assert clip.first_mask == mask
    with pytest.raises(ReadError, match=r"0003\.png: has no truth"):
        clip.read_alpha(3, (6, 8))
    put(tmp_path / "alpha" / "a" / "00021.png")
    with pytest.raises(ReadError, match="every 10th of 12 frames, got 3 files"):
        open_dataset("crgnn", tmp_path)


def test_grabcut_leaves_the_border_open(tmp_path):
    put(tmp_path / "data_GT" / "cat.jpg", size=(1, 3))
    put(tmp_path / "boundary_GT" / "cat.bmp", np.array([[0, 128, 255]], np.uint8))
    (sample,) = open_dataset("grabcut", tmp_path).groups[0].images
    assert sample.read_border((1, 3)).tolist() == [[False, True, False]]
    assert sample.read_alpha((1, 3))[0, ::2].tolist() == [0, 1]


def test_berkeley_is_images_with_masks(tmp_path):
    put(tmp_path / "images" / "3096.jpg")
    put(tmp_path / "masks" / "3096.png")
    assert names(open_dataset("berkeley", tmp_path)) == {"3096": ["3096"]}


def test_plain_clips_with_alpha_or_masks_in_the_order_of_their_numbers(tmp_path):
    for number in (9, 10):
        put(tmp_path / "soft" / "frames" / f"f{number}.png")
        put(tmp_path / "soft" / "alpha" / f"f{number}.png", 51)
        put(tmp_path / "hard" / "frames" / f"{number:04d}.jpg")
        put(tmp_path / "hard" / "masks" / f"{number:04d}.png", 200)
    hard, soft = open_dataset("clips", tmp_path).clips
    assert [path.stem for path in soft.frames] == ["f9", "f10"]
    assert (hard.kind, soft.kind) == ("mask", "alpha")
    assert soft.read_alpha(0, (6, 8)).max() == pytest.approx(0.2)
    assert hard.read_alpha(0, (6, 8)).min() == 1


def test_a_frame_without_truth_is_named(tmp_path):
    put(tmp_path / "c" / "frames" / "0.png")
    put(tmp_path / "c" / "frames" / "1.png")
    put(tmp_path / "c" / "masks" / "0.png")
    with pytest.raises(ReadError, match=r"masks: the truth is missing for 1;"):
        open_dataset("clips", tmp_path)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_folder_of_another_shape_says_what_was_looked_for(tmp_path, name):
    put(tmp_path / "odd" / "notes" / "x.png")
    with pytest.raises(ReadError, match="looked for"):
        open_dataset(name, tmp_path)
    with pytest.raises(ReadError, match="does not exist; check --root"):
        open_dataset(name, tmp_path / "nowhere")


def test_an_alpha_of_another_size_than_its_image_is_named(tmp_path):
    put(tmp_path / "g" / "image.png", size=(6, 8))
    put(tmp_path / "g" / "alpha.png", size=(6, 9))
    (sample,) = open_dataset("groups", tmp_path).groups[0].images
    with pytest.raises(ReadError, match=r"alpha\.png: is 9x6, but its image .*image\.png is 8x6"):
        sample.read_alpha((6, 8))


def test_unknown_is_between_the_thresholds_of_the_research_code(tmp_path):
    trimap = put(tmp_path / "t.png", np.array([[0, 84, 85, 128, 169, 170, 255]], np.uint8))
    unknown = read_unknown(trimap, (1, 7), image=trimap)
    assert unknown[0].tolist() == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"sub_class": 1}}', "{}", '{"a": 3}'])
def test_a_file_of_groups_that_is_none_is_refused(tmp_path, text):
    layout(tmp_path, ["a"], ("image", "alpha"))
    (tmp_path / "groups.json").write_text(text)
    with pytest.raises(ReadError, match=r"groups\.json"):
        open_dataset("rm1k", tmp_path)


def test_an_unknown_data_set_is_refused():
    with pytest.raises(OptionError, match="there are icm57, aim500"):
        open_dataset("coco", ".")
