"""`Pipeline` does what `matte` does; frames and masks in memory; errors in the words of Python."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie
from picker import SIZE, disc, write_disc
from PIL import Image

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError, PromptError, ReadError, VidmatteError
from vidmatte.options import Despill, FinishOptions
from vidmatte.prompts.objects import ObjectPrompts
from vidmatte.python_errors import in_python
from vidmatte.read import open_video
from vidmatte.read.memory import MemoryVideo
from vidmatte.report.invocation import Invocation

FRAMES = 6
QUICK = dict(working_size=128, device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_disc(tmp_path_factory.mktemp("clip") / "disc.mp4", frames=FRAMES)


@pytest.fixture(scope="module")
def pictures(clip):
    """The frames as (T, H, W, 3) uint8."""
    with open_video(clip) as video:
        frames = [frame.rgb.transpose(1, 2, 0).clip(0, 1) for frame in video.decode()]
    return np.stack([np.round(frame * 255).astype(np.uint8) for frame in frames])


def mask_of(frame=0, size=SIZE):
    y, x = np.mgrid[: size[1], : size[0]]
    cx, cy, radius = disc(frame, size)
    return np.hypot(x - cx, y - cy) < radius


def marks(frame=0):
    x, y, _ = disc(frame)
    return [(x, y)]


def written(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        ({"": [vidmatte.Prompt(2, marks(2))]}, dict(adapt_steps=2)),
        (
            {"": [vidmatte.Prompt(points=marks()), vidmatte.Prompt(4, mask=mask_of(4))]},
            dict(adapt_steps=0, smooth=0.6, finish=FinishOptions(grow=-0.5, feather=1.5)),
        ),
        (
            {"a": [vidmatte.Prompt(mask=mask_of())], "b": [vidmatte.Prompt(box=(0, 0, 40, 90))]},
            dict(adapt_steps=1, start="1", end="4", despill=Despill("green"), premultiplied=True),
        ),
    ],
)
def test_the_pipeline_equals_matte_to_the_bit(clip, tmp_path, prompts, options):
    """Every file has the same bytes, colour and sound and metadata included."""
    chosen = vidmatte.MatteOptions(**QUICK, **options)
    given = prompts.get("", prompts)
    name = "" if "" in prompts else "_{object}"
    for folder in ("call", "parts"):
        (tmp_path / folder).mkdir()
    paths = {
        folder: dict(
            output=[f"{tmp_path}/{folder}/c{name}.%04d.png", f"{tmp_path}/{folder}/c{name}.mov"],
            alpha=f"{tmp_path}/{folder}/a{name}.mkv",
        )
        for folder in ("call", "parts")
    }
    summary = vidmatte.matte(clip, given, options=chosen, **paths["call"])
    confidence = []
    with (
        vidmatte.Pipeline(clip, given, options=chosen) as pipeline,
        pipeline.outputs(**paths["parts"]) as out,
    ):
        for mattes in pipeline.mattes():
            out.write(mattes)
            confidence += map(
                min, zip(*(batch.confidence for batch in mattes.values()), strict=True)
            )
    assert tuple(confidence) == summary.confidence
    files = written(tmp_path / "call")
    assert len(files) >= FRAMES // 2
    assert written(tmp_path / "parts") == files


def test_the_parts_of_the_pipeline_are_in_reach(clip):
    reports = []
    with vidmatte.Pipeline(
        clip,
        vidmatte.Prompt(1, marks(1)),
        options=vidmatte.MatteOptions(adapt_steps=2, **QUICK),
        progress=reports.append,
    ) as pipeline:
        assert pipeline.video.count_frames() == FRAMES
        assert [reference.frame for reference in pipeline.references[""]] == [1]
        assert pipeline.references[""][0].adjacent is not None  # motion helps to tell the object
        assert pipeline.model.name == "compact"
        assert set(pipeline.predictors) == {""}
        steps = [(now.done, now.total) for now in reports if now.stage == "adapting"]
        assert steps == [(0, 2), (1, 2), (2, 2)]
        frames = list(pipeline.frames())
        for _ in range(2):
            counts = [(now.stage, now.done, now.total) for now in reports]
            # Frame 0 lies before the marked one.
            assert ("propagating", 1, FRAMES) in counts
            assert counts[-1] == ("matting", FRAMES, FRAMES)
            again = list(pipeline)
    assert [frame.number for frame in frames] == list(range(FRAMES))
    for frame, batch in zip(frames, again, strict=True):
        assert np.array_equal(frame.alpha, batch.alpha[0, 0].numpy())
        rgba = frame.rgba()
        assert rgba.shape == (SIZE[1], SIZE[0], 4)
        assert np.array_equal(rgba[..., 3], np.floor(frame.alpha * 255 + 0.5))
        assert np.array_equal(np.asarray(frame.image()), rgba)
    cx, cy, _ = map(int, disc(3))
    assert frames[3].alpha[cy, cx] > 0.9
    assert frames[3].alpha[2, 2] < 0.1
    # The disc is (230, 120, 30); its colour is straight.
    assert np.allclose(frames[3].color[cy, cx] * 255, (230, 120, 30), atol=12)


def test_the_colour_of_the_source_is_kept_if_none_is_estimated(clip, pictures):
    options = vidmatte.MatteOptions(adapt_steps=0, end="0", **QUICK)
    with vidmatte.Pipeline(
        clip, vidmatte.Prompt(points=marks()), options=options, color=False
    ) as pipeline:
        (frame,) = pipeline.frames()
    assert np.abs(frame.color * 255 - pictures[0]).max() <= 1


def test_objects_are_named_and_one_has_to_be_chosen(clip):
    prompts = {"a": vidmatte.Prompt(points=marks()), "b": vidmatte.Prompt(box=(0, 0, 40, 90))}
    options = vidmatte.MatteOptions(adapt_steps=0, end="0", **QUICK)
    with vidmatte.Pipeline(clip, prompts, options=options) as pipeline:
        assert set(pipeline.references) == {"a", "b"}
        with pytest.raises(OptionError, match="the objects are a, b, and no name was given"):
            next(iter(pipeline))
        with pytest.raises(OptionError, match="'c' was asked for"):
            pipeline.frames("c")
        assert len(list(pipeline.frames("b"))) == 1


def test_a_pipeline_that_is_not_open_says_so(clip):
    pipeline = vidmatte.Pipeline(clip, vidmatte.Prompt(points=marks()))
    with pytest.raises(OptionError, match="in a with statement"):
        _ = pipeline.video


def save_sequence(folder, pictures):
    folder.mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index:04d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return folder


@pytest.mark.parametrize("kind", ["array", "list", "pillow", "uint16", "float"])
def test_frames_in_memory_are_matted_as_their_files_are(pictures, tmp_path, kind):
    makes = {
        "array": lambda: pictures,
        "list": lambda: list(pictures),
        "pillow": lambda: [Image.fromarray(picture) for picture in pictures],
        "uint16": lambda: pictures.astype(np.uint16) * 257,
        "float": lambda: (pictures / np.float32(255)).astype(np.float32),
    }
    prompt = vidmatte.Prompt(1, marks(1))
    options = vidmatte.MatteOptions(adapt_steps=0, **QUICK)
    folder = save_sequence(tmp_path / "frames", pictures)
    vidmatte.matte(folder, prompt, alpha=tmp_path / "file.mkv", options=options)
    vidmatte.matte(makes[kind](), prompt, alpha=tmp_path / "memory.mkv", options=options)
    assert (tmp_path / "memory.mkv").read_bytes() == (tmp_path / "file.mkv").read_bytes()


def test_one_image_in_memory_goes_in_and_comes_out(pictures):
    options = vidmatte.MatteOptions(**QUICK)
    with vidmatte.Pipeline(
        Image.fromarray(pictures[0]), vidmatte.Prompt(mask=mask_of()), options=options
    ) as pipeline:
        (frame,) = pipeline.frames()
    assert frame.image().size == SIZE
    assert abs((frame.alpha > 0.5) ^ mask_of()).mean() < 0.01


def test_a_set_in_memory_has_images_of_any_size(pictures, tmp_path):
    images = [pictures[0], Image.fromarray(pictures[3]).resize((100, 60))]
    options = vidmatte.MatteOptions(**QUICK)
    vidmatte.matte(
        images,
        vidmatte.Prompt(mask=mask_of()),
        images=True,
        alpha=tmp_path / "{name}.png",
        options=options,
    )
    shapes = [cv2.imread(str(path)).shape for path in sorted(tmp_path.iterdir())]
    assert shapes == [(SIZE[1], SIZE[0], 3), (60, 100, 3)]


def test_frames_in_memory_are_never_cut_into_segments(pictures, tmp_path):
    options = vidmatte.MatteOptions(adapt_steps=0, segment_frames=2, **QUICK)
    prompt = vidmatte.Prompt(points=marks())
    summary = vidmatte.matte(pictures, prompt, alpha=tmp_path / "a.mkv", options=options)
    assert (summary.frames, summary.input) == (FRAMES, "frames in memory")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_alpha_of_frames_in_memory_can_be_the_matte(tmp_path):
    rgba = np.zeros((2, 8, 6, 4), np.uint8)
    rgba[:, 2:5, 1:4] = (200, 100, 50, 128)
    options = vidmatte.MatteOptions(model="none", source_alpha="matte")
    with vidmatte.Pipeline(rgba, options=options) as pipeline:
        frames = list(pipeline.frames())
    assert [np.unique(frame.alpha * 255).round().tolist() for frame in frames] == [[0, 128]] * 2


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames given"),
        ([np.zeros((4, 4, 2), np.uint8)], r"shape \(4, 4, 2\)"),
        ([np.zeros((4, 4, 3), np.int64)], "values of type int64"),
        ([np.full((4, 4, 3), np.nan)], "no finite numbers"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "frame 1 is 5x4"),
    ],
)
def test_frames_that_are_no_images_are_refused(frames, message):
    with pytest.raises(ReadError, match=message):
        list(MemoryVideo(frames).decode())


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16", "CMYK"])
def test_pillow_images_of_all_modes_are_read_as_they_look(mode):
    gray = Image.fromarray(np.tile(np.array([[0, 90, 255]], np.uint8), (4, 1)))
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray
    image = image if image.mode == mode else image.convert(mode)
    (frame,) = MemoryVideo([image]).decode()
    expected = [0, 255, 255] if mode == "1" and frame.rgb[0, 0, 1] == 1 else [0, 90, 255]
    if mode == "1":  # dithered
        assert set(np.unique(frame.rgb)) <= {0, 1}
        return
    assert np.allclose(frame.rgb[:, 0] * 255, [expected] * 3, atol=1)


def alpha_of(mask, size=(4, 2)):
    prompt = vidmatte.Prompt(mask=mask)
    with open_video_of(size) as video:
        return prompt.reference(video.frame(0).rgb).alpha[0, 0].numpy()


def open_video_of(size):
    return MemoryVideo([np.zeros((size[1], size[0], 3), np.uint8)])


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[0, 1, 1, 0]] * 2, bool),
        np.array([[0, 1, 1, 0]] * 2, np.uint8),
        np.array([[0, 1, 1, 0]] * 2, np.int64),
        np.array([[0, 255, 255, 0]] * 2, np.uint8),
        np.array([[0, 65535, 65535, 0]] * 2, np.uint16),
        np.array([[0, 1, 1, 0]] * 2, np.float64)[..., None],
        Image.fromarray(np.array([[0, 255, 255, 0]] * 2, np.uint8)),
    ],
)
def test_masks_in_memory_mark_what_they_show(mask):
    assert alpha_of(mask).tolist() == [[0, 1, 1, 0]] * 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 4, 3), np.uint8), r"shape \(2, 4, 3\)"),
        (np.array([[0, 2]]), "type int64"),
        (np.full((2, 4), np.inf), "type float64"),
        (Image.new("RGB", (4, 2)), "mode RGB"),
        (Image.new("P", (4, 2)), r"np.asarray\(image\) == 2"),
        (np.zeros((2, 4), bool), "the mask is empty"),
        (np.ones((3, 4), bool), "is 4x3, but the frame is 4x2"),
    ],
)
def test_masks_in_memory_that_mark_nothing_are_refused(mask, message):
    with pytest.raises(PromptError, match=message):
        alpha_of(mask)


def test_masks_in_memory_are_equal_if_their_pixels_are():
    one, same, other = (vidmatte.Prompt(mask=mask_of(frame)) for frame in (0, 0, 1))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


def test_masks_in_memory_are_copied():
    mask = np.ones((2, 4), np.float32)
    prompt = vidmatte.Prompt(mask=mask)
    mask[:] = 0
    assert prompt.mask.alpha.min() == 1


def test_masks_in_memory_are_no_part_of_prompt_files_and_named_in_commands(tmp_path):
    prompt = vidmatte.Prompt(3, mask=mask_of())
    with pytest.raises(PromptError, match="save it as PNG"):
        vidmatte.save_prompts(tmp_path / "p.json", {"a": [prompt]})
    objects = ObjectPrompts.of(prompt).objects
    recipe = Invocation(["c.mp4"], False, None, objects, (), None, {}).recipe()
    assert recipe == "vidmatte c.mp4 --ref-frame 3 --mask MASK.png"


def test_points_need_no_label_and_paths_may_be_text():
    prompt = vidmatte.Prompt(points=[(3, 4), [5, 6, 0]], box=[1, 2, 3, 4], scribbles="s.png")
    assert prompt.points == ((3, 4, 1), (5, 6, 0))
    assert (prompt.box, prompt.scribbles) == ((1, 2, 3, 4), Path("s.png"))
    assert vidmatte.Prompt(mask="m.png").mask == Path("m.png")
    with pytest.raises(PromptError, match=re.escape("give (x, y) or (x, y, label)")):
        vidmatte.Prompt(points=[(3,)])


def test_one_output_may_be_plain_text(clip, tmp_path):
    options = vidmatte.MatteOptions(adapt_steps=0, end="1", **QUICK)
    path = str(tmp_path / "shot.webm")
    with (
        vidmatte.Pipeline(clip, vidmatte.Prompt(points=marks()), options=options) as pipeline,
        vidmatte.create_outputs(path, like=pipeline.video.info, audio=False) as out,
    ):
        for batch in pipeline:
            out.write(batch)
    assert [str(file.path) for file in out.files] == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exists; use --overwrite to replace it", "exists; use overwrite=True to replace it"),
        ("use --overwrite without --resume", "use overwrite=True without resume=True"),
        ("give --model none too, and no --matte", "give model='none' too, and no matte"),
        ("give --matte PATH; try --device cpu", "give matte=PATH; try device='cpu'"),
        ("use --on-damage stop, or convert it", "use on_damage='stop', or convert it"),
        ("use --on-damage: stop mattes", "use on_damage: stop mattes"),
        ("--deinterlace keep where", "deinterlace='keep' where"),
        ("an output with colour (-o)", "an output with colour (output)"),
        ("give it to -o/--output", "give it to output"),
        ("it has a rate: --fps RATE", "it has a rate: frame_rate=RATE"),
        ("choose one of them (--object)", "choose one of them (prompts={name: ...})"),
        ("say --images for a set", "say images=True for a set"),
        ("a--overwrite and x-o stay", "a--overwrite and x-o stay"),
        ("torchrun --nproc-per-node 2 stays", "torchrun --nproc-per-node 2 stays"),
    ],
)
def test_messages_name_arguments_in_place_of_options(text, said):
    assert in_python(text) == said


def test_movies_and_exr_name_the_weights_of_the_run(clip, tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    vidmatte.matte(
        clip,
        vidmatte.Prompt(points=marks()),
        output=tmp_path / "c.%d.exr",
        alpha=tmp_path / "a.mov",
        options=vidmatte.MatteOptions(end="0", **QUICK),
    )
    folder = Path(vidmatte.__file__).parent / "model" / "weights"
    said = ", ".join(
        f"{name} sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
        for name in ("compact.safetensors", "corrector.safetensors", "refiner.safetensors")
    )
    with av.open(str(tmp_path / "a.mov")) as container:
        assert container.metadata["vidmatte.weights"] == said
    header = OpenEXR.File(str(tmp_path / "c.0.exr")).header()
    assert header["vidmatteWeights"] == said


def test_errors_of_the_library_speak_python(clip, tmp_path):
    (tmp_path / "a.mkv").touch()
    prompt = vidmatte.Prompt(points=marks())
    for attempt in (
        lambda: vidmatte.matte(clip, prompt, alpha=tmp_path / "a.mkv"),
        lambda: vidmatte.Pipeline(clip, prompt).__enter__().outputs(alpha=tmp_path / "a.mkv"),
    ):
        with pytest.raises(VidmatteError, match="use overwrite=True to replace it"):
            attempt()


def test_errors_of_what_was_returned_speak_python_too(clip, tmp_path):
    """Opened clips and prompts fail later, where no public function is called."""
    cut = write_movie(tmp_path / "cut.mkv", frames=60)
    os.truncate(cut, cut.stat().st_size * 2 // 3)
    with (
        vidmatte.open_video(cut) as video,
        pytest.raises(ReadError, match="use on_damage: stop") as read,
    ):
        list(video.batches(1))
    assert "--" not in str(read.value)
    with vidmatte.open_video(clip) as video:
        frame = video.frame(0)
        with pytest.raises(PromptError, match=r"or give mask_fit='top-left' or"):
            vidmatte.Prompt(mask=np.ones((88, 160), bool)).reference(frame.rgb)


def test_notes_of_the_library_speak_python():
    image = Image.new("RGBA", (64, 48), (200, 40, 40, 128))
    with vidmatte.Pipeline([image], vidmatte.Prompt(points=[(30, 20)])) as pipeline:
        (note,) = pipeline.video.info.notes
    assert note.endswith("hidden colour may show; source_alpha='multiply' keeps it hidden")


def test_the_command_line_speaks_of_options_in_the_same_process(clip, tmp_path):
    (tmp_path / "a.mkv").touch()
    command = [str(clip), "--points", "9,9", "--alpha", str(tmp_path / "a.mkv")]
    result = CliRunner().invoke(cli, command)
    assert "use --overwrite to replace it" in result.stderr
    with pytest.raises(VidmatteError, match="use overwrite=True"):
        vidmatte.matte(clip, vidmatte.Prompt(points=[(9, 9)]), alpha=tmp_path / "a.mkv")


def test_movies_in_memory_have_no_options_of_movies(tmp_path):
    write_movie(tmp_path / "c.mp4", frames=2)
    options = vidmatte.MatteOptions(on_damage="skip")
    with (
        pytest.raises(OptionError, match="frames in memory were given"),
        vidmatte.Pipeline(
            np.zeros((2, 8, 8, 3), np.uint8), vidmatte.Prompt(points=[(1, 1)]), options=options
        ),
    ):
        pass
