"""Several objects in one run: names, files, layers, and whose a pixel is."""

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from clips import write_movie

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.pipeline.outputs import outputs_of_objects
from vidmatte.prompts.files import save_prompts
from vidmatte.prompts.objects import for_each_object, prompts_of_objects, share_overlaps
from vidmatte.stages.smooth import smooth

POINT = vidmatte.Prompt(points=((5, 5, 1),))


def batch(values, frame=0, rgb=None):
    alpha = torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)
    source = FrameBatch(
        torch.zeros(1, 3, 1, alpha.shape[-1]) if rgb is None else rgb, (frame,), (frame,), (1,)
    )
    return MatteBatch(source, alpha, (0.5,))


def test_overlaps_sum_to_one_by_hand():
    first, second = share_overlaps((batch([0.2, 1.0, 0.5, 0.9]), batch([0.3, 1.0, 0.5, 0.6])))
    assert first.alpha.flatten().tolist() == pytest.approx([0.2, 0.5, 0.5, 0.6], abs=1e-6)
    assert second.alpha.flatten().tolist() == pytest.approx([0.3, 0.5, 0.5, 0.4], abs=1e-6)
    three = share_overlaps(tuple(batch([0.8]) for _ in range(3)))
    assert [float(one.alpha) for one in three] == pytest.approx([1 / 3] * 3)
    only = batch([0.7])
    assert share_overlaps((only,)) == (only,)


def test_names_become_parts_of_paths():
    objects = prompts_of_objects({"person": POINT, "../big dog.v2": [POINT]})
    assert list(objects) == ["person", "___big_dog_v2"]
    assert objects["person"] == [POINT]
    assert prompts_of_objects([POINT]) == {"": [POINT]}
    for names in (("a b", "a_b"), ("Person", "person"), ("",)):
        with pytest.raises(OptionError, match="its own name"):
            prompts_of_objects(dict.fromkeys(names, POINT))
    with pytest.raises(OptionError, match="no object is marked"):
        prompts_of_objects({})


def test_outputs_are_resolved_for_each_object():
    both = ["a", "b"]
    files = outputs_of_objects("out/{object}/{object}.%04d.png", both, alpha_only=True)
    assert [(str(file.path), file.object_name) for file in files] == [
        ("out/a/a.%04d.png", "a"),
        ("out/b/b.%04d.png", "b"),
    ]
    (layered,) = outputs_of_objects("o.%04d.exr", both, alpha_only=False)
    assert (layered.layers, layered.object_name) == (("a", "b"), "")
    (single,) = outputs_of_objects("o.%04d.exr", ["a"], alpha_only=False)
    assert (single.layers, single.object_name) == ((), "a")
    with pytest.raises(OptionError, match=r"2 objects are marked \(a, b\); write {object}"):
        outputs_of_objects("o.mov", both, alpha_only=False)
    with pytest.raises(OptionError, match="prompt file"):
        outputs_of_objects("{object}.mov", [""], alpha_only=False)


def test_stages_of_several_objects_go_in_step():
    rng = np.random.default_rng(0)
    clips = [[batch(rng.random(9).tolist(), n) for n in range(7)] for _ in range(3)]
    drawn = []

    def mattes():
        for n, together in enumerate(zip(*clips, strict=True)):
            drawn.append(n)
            yield together

    wanted = [list(smooth(clip, 0.7)) for clip in clips]
    for n, together in enumerate(
        for_each_object(lambda batches: smooth(batches, 0.7), mattes(), 3)
    ):
        assert len(drawn) <= n + 2  # nothing but the smoother's own look-ahead waits
        for one, of in zip(together, wanted, strict=True):
            assert torch.equal(one.alpha, of[n].alpha)
    assert len(drawn) == 7


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A clip of a red disc on the left and a green one on the right, with masks and prompts."""
    folder = tmp_path_factory.mktemp("two")
    y, x = np.mgrid[:96, :160]
    masks = {"red": np.hypot(y - 48, x - 45) < 24, "green": np.hypot(y - 48, x - 115) < 24}
    picture = np.full((96, 160, 3), (30, 60, 120), np.uint8)
    picture[masks["red"]], picture[masks["green"]] = (220, 60, 40), (40, 200, 60)
    rng = np.random.default_rng(0)
    pictures = [
        np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        for _ in range(4)
    ]
    clip = write_movie(folder / "two.mp4", frames=4, pictures=pictures, options={"crf": "6"})
    for name, mask in masks.items():
        cv2.imwrite(str(folder / f"{name}.png"), mask.astype(np.uint8) * 255)
    # One is marked on the first frame, the other on the last.
    marks = {
        name: (vidmatte.Prompt(frame=frame, mask=folder / f"{name}.png"),)
        for name, frame in (("red", 0), ("green", 3))
    }
    save_prompts(folder / "p.json", marks)
    return clip, folder / "p.json", masks


def run(clip, *arguments, code=0):
    command = [str(clip), *map(str, arguments), "--working-size", "128", "--adapt-steps", "0"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == code, result.output
    return result


def gray(path):
    with av.open(str(path)) as container:
        return (
            np.stack([frame.to_ndarray(format="gray16le") for frame in container.decode(video=0)])
            / 65535
        )


def test_a_file_each_and_layers_of_one_exr(two, tmp_path, monkeypatch):
    OpenEXR = pytest.importorskip("OpenEXR")
    clip, prompts, masks = two
    passes = []
    batches = vidmatte.read.Video.batches
    monkeypatch.setattr(
        vidmatte.read.Video,
        "batches",
        lambda *a, **k: (passes.append(k.get("end", 0)), batches(*a, **k))[1],
    )
    targets = [
        "--alpha",
        tmp_path / "{object}.mkv",
        "--alpha",
        tmp_path / "a.%02d.exr",
        "-o",
        tmp_path / "o.%02d.exr",
    ]
    result = run(clip, "--prompts", prompts, *targets, "--json")
    assert passes.count(None) == 1  # the clip is decoded once for both
    alpha = {name: gray(tmp_path / f"{name}.mkv") for name in masks}
    for name, mask in masks.items():
        assert len(alpha[name]) == 4
        for plane in alpha[name]:
            assert ((plane > 0.5) & mask).sum() / ((plane > 0.5) | mask).sum() > 0.75
    assert sum(alpha.values()).max() <= 1 + 1.5 / 65535
    for n in range(4):
        mattes = OpenEXR.File(str(tmp_path / f"a.{n:02d}.exr"), separate_channels=True).channels()
        colors = OpenEXR.File(str(tmp_path / f"o.{n:02d}.exr"), separate_channels=True).channels()
        # The main channels are what Nuke and Resolve show of a file with layers: all objects.
        layers = {f"{name}.{channel}" for name in masks for channel in "RGBA"}
        assert set(mattes) == {"Y", "red.A", "green.A"}
        assert set(colors) == {*"RGBA", *layers}
        together = alpha["red"][n] + alpha["green"][n]
        assert np.abs(mattes["Y"].pixels - together).max() < 2e-3
        assert np.abs(colors["A"].pixels - together).max() < 2e-3
        for name in masks:
            assert np.abs(mattes[f"{name}.A"].pixels - alpha[name][n]).max() < 1e-3
            assert np.array_equal(mattes[f"{name}.A"].pixels, colors[f"{name}.A"].pixels)
        inside = cv2.erode(masks["red"].astype(np.uint8), np.ones((5, 5), np.uint8)) & (
            alpha["red"][n] > 0.99
        )
        inside = inside.astype(bool)
        assert (colors["red.R"].pixels[inside] > 4 * colors["red.G"].pixels[inside]).all()
        assert (colors["green.G"].pixels[masks["red"]] < 0.02).mean() > 0.9
    document = __import__("json").loads(result.stdout)
    assert document["objects"] == ["red", "green"]
    assert {output["path"]: output.get("object") for output in document["outputs"]} == {
        str(tmp_path / "red.mkv"): "red",
        str(tmp_path / "green.mkv"): "green",
        str(tmp_path / "a.%02d.exr"): None,
        str(tmp_path / "o.%02d.exr"): None,
    }


def test_together_as_alone_where_they_do_not_overlap(two, tmp_path):
    clip, prompts, masks = two
    run(clip, "--prompts", prompts, "--alpha", tmp_path / "{object}.mkv", "--smooth", "0.5")
    together = {name: gray(tmp_path / f"{name}.mkv") for name in masks}
    alone = {}
    for name in masks:
        run(
            clip,
            "--prompts",
            prompts,
            "--object",
            name,
            "--alpha",
            tmp_path / f"only_{name}.mkv",
            "--smooth",
            "0.5",
        )
        alone[name] = gray(tmp_path / f"only_{name}.mkv")
    total = sum(alone.values())
    for name in masks:
        assert np.abs(together[name] - alone[name] / np.maximum(total, 1)).max() < 2 / 65535


def test_default_names_hold_the_objects(two, tmp_path, monkeypatch):
    clip, prompts, _ = two
    monkeypatch.chdir(tmp_path)
    run(clip, "--prompts", prompts, "--end", "0", "--quiet")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"two_{name}_{kind}.mov" for name in ("green", "red") for kind in ("alpha", "matte")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "o.mov"), "2 objects are marked (red, green); write {object}"),
        (("-o", "{object}.mov", "--object", "blue"), "'blue' is not valid"),
        (("-o", "{object}.mov", "--outside-mask", "TWO"), "has 2 frames, and frame 3"),
        (
            ("-o", "{object}.mov", "--outside-mask", "TWO", "--start", "1", "--end", "2"),
            "has 2 frames, and frame 2",
        ),
        (("-o", "{object}.mov", "--region", "0,0,161,9"), "does not fit the frame of 160x96"),
        (("-o", "{object}.mov", "--invert"), "choose one of them"),
        (("-o", "{object}.mov", "--inside-mask", "m.png"), "choose one of them"),
    ],
)
def test_options_that_do_not_fit_several_objects_are_refused(
    two, tmp_path, monkeypatch, arguments, message
):
    clip, prompts, _ = two
    monkeypatch.chdir(tmp_path)
    short = write_movie(clip.with_name("short.mp4"), frames=2)
    arguments = [short if argument == "TWO" else argument for argument in arguments]
    assert message in run(clip, "--prompts", prompts, *arguments, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_applies_finishing_controls(two, tmp_path):
    clip, prompts, masks = two
    mask = masks["red"]
    outside = np.zeros((96, 160), np.uint8)
    outside[:, :30] = 255
    cv2.imwrite(str(tmp_path / "out.png"), outside)
    one = ["--prompts", prompts, "--object", "red"]
    run(clip, *one, "--alpha", tmp_path / "plain.mkv", "--clip-black", "0.4", "--clip-white", "0.6")
    run(
        clip,
        *one,
        "--alpha",
        tmp_path / "big.mkv",
        "--clip-black",
        "0.4",
        "--clip-white",
        "0.6",
        "--grow",
        "3",
        "--region",
        "0,0,160,60",
        "--outside-mask",
        tmp_path / "out.png",
    )
    run(clip, *one, "--alpha", tmp_path / "surroundings.mkv", "--invert")
    run(clip, *one, "--alpha", tmp_path / "object.mkv")
    plain, big = gray(tmp_path / "plain.mkv"), gray(tmp_path / "big.mkv")
    assert (big[:, 60:] == 0).all()
    assert (big[:, :, :30] == 0).all()
    rows = (slice(None), slice(40, 56), slice(40, 100))
    # On one side of the disc.
    assert big[rows].sum(2).mean() - plain[rows].sum(2).mean() == pytest.approx(3, abs=0.35)
    assert (
        np.abs(gray(tmp_path / "surroundings.mkv") + gray(tmp_path / "object.mkv") - 1).max()
        < 2 / 65535
    )
    assert mask.any()


def test_feather_draws_no_background_into_the_colour(two, tmp_path):
    clip, prompts, _ = two
    one = ["--prompts", prompts, "--object", "red", "--end", "0"]
    run(clip, *one, "-o", tmp_path / "soft.%d.png", "--feather", "4")
    run(clip, *one, "-o", tmp_path / "plain.%d.png")
    soft, plain = (
        cv2.imread(str(tmp_path / f"{name}.0.png"), cv2.IMREAD_UNCHANGED)
        for name in ("soft", "plain")
    )
    # Where the feather reaches beyond the object, colour is still that of the object: red, not
    # blue; but for some of the outline, where the mask takes in pixels whose chroma the codec has
    # mixed with the background's.
    beyond = (soft[..., 3] > 3000) & (plain[..., 3] < 300)
    assert beyond.sum() > 200
    blue, _, red, _ = soft[beyond].astype(float).T
    assert (red > 2 * blue).mean() > 0.9
    assert np.median(red) > 4 * np.median(blue)
    both = (soft[..., 3] > 0) & (plain[..., 3] > 0)
    assert np.array_equal(soft[both][:, :3], plain[both][:, :3])


def test_despill_changes_the_colour_only(two, tmp_path):
    clip, prompts, masks = two
    one = ["--prompts", prompts, "--object", "green", "--end", "0", "--foreground", "source"]
    run(clip, *one, "-o", tmp_path / "plain.%d.png")
    run(clip, *one, "-o", tmp_path / "clean.%d.png", "--despill", "green")
    plain, clean = (
        cv2.imread(str(tmp_path / f"{name}.0.png"), cv2.IMREAD_UNCHANGED)
        for name in ("plain", "clean")
    )
    assert np.array_equal(plain[..., 3], clean[..., 3])
    blue, green, red, _ = (clean[masks["green"] & (clean[..., 3] == 65535)].astype(float) / 65535).T
    assert (green <= (red + blue) / 2 + 1e-4).all()
    assert (
        "only alpha is written"
        in run(clip, *one[:-2], "--alpha", tmp_path / "a.mkv", "--despill", "green", code=2).stderr
    )
