"""Every option of a run does something: it changes an output, the summary, or is refused."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

import vidmatte
from vidmatte.cli import cli
from vidmatte.prompts.files import save_prompts
from vidmatte.report.summary import Summary


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    """A clip with sound of a blurred disc that grows and shrinks; and the disc's first mask."""
    folder = tmp_path_factory.mktemp("soft")
    y, x = np.mgrid[:96, :160]
    pictures = []
    for n in range(10):
        alpha = np.clip((26 + 3 * (n % 2) - np.hypot(y - 48, x - 60 - 2 * n)) / 8 + 0.5, 0, 1)[
            ..., None
        ]
        pictures.append((alpha * (230, 80, 40) + (1 - alpha) * (30, 90, 200)).astype(np.uint8))
    clip = write_movie(
        folder / "soft.mp4", frames=10, pictures=pictures, sound=True, options={"crf": "6"}
    )
    cv2.imwrite(str(folder / "mask.png"), ((np.hypot(y - 48, x - 60) < 26) * 255).astype(np.uint8))
    return clip, folder / "mask.png"


def run(clip, *arguments, code=0):
    result = CliRunner().invoke(cli, [str(clip), *map(str, arguments), "--working-size", "128"])
    assert result.exit_code == code, result.output
    return result


def movie(path):
    with av.open(str(path)) as container:
        return np.stack(
            [frame.to_ndarray(format="gray16le") for frame in container.decode(video=0)]
        )


def pixels(folder, name):
    return [
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob(f"{name}.*.png"))
    ]


def test_colour_of_soft_pixels(soft, tmp_path):
    clip, mask = soft
    for name, options in (
        ("e", ()),
        ("s", ("--foreground", "source")),
        ("p", ("--premultiplied",)),
    ):
        run(clip, "--mask", mask, "-o", tmp_path / f"{name}.%02d.png", *options)
    estimated, source, premultiplied = (
        np.stack(pixels(tmp_path, name)).astype(float) / 65535 for name in "esp"
    )
    with vidmatte.open_video(clip) as video:
        rgb = np.stack([frame.rgb for frame in video.decode()]).transpose(0, 2, 3, 1)
    soft_pixels = (estimated[..., 3] > 0.2) & (estimated[..., 3] < 0.8)
    assert soft_pixels.sum() > 300
    visible = source[..., 3] > 0
    assert np.abs(source[..., 2::-1] - rgb)[visible].max() < 1e-4
    # The object is red, the background blue: estimated colour has lost most of the blue that the
    # source has there.
    assert estimated[soft_pixels][:, 0].mean() < 0.75 * source[soft_pixels][:, 0].mean()
    assert (
        np.abs(premultiplied[..., :3] - estimated[..., :3] * estimated[..., 3:])[visible].max()
        < 1e-3
    )


def test_a_mask_with_a_hard_edge_is_kept_on_its_own_frame(soft, tmp_path):
    clip, mask = soft
    given = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE).astype(int) * 257
    for edge in ("hard", "soft"):
        run(clip, "--mask", mask, "--alpha", tmp_path / f"{edge}.mkv", "--mask-edge", edge)
    hard, refined = (movie(tmp_path / f"{edge}.mkv").astype(int) for edge in ("hard", "soft"))
    assert np.array_equal(hard[0], given)
    # The disc has a wide soft edge, which the mask lacks.
    assert ((refined[0] > 6553) & (refined[0] < 58982)).sum() > 200
    assert np.array_equal(hard[1:], refined[1:])


def test_a_mask_with_a_hard_edge_is_kept_on_its_own_image(soft, tmp_path):
    clip, mask = soft
    pictures = tmp_path / "in"
    pictures.mkdir()
    with vidmatte.open_video(clip) as video:
        for index in range(2):
            codes = np.rint(255 * video.frame(index).rgb[0].numpy()[::-1].transpose(1, 2, 0))
            cv2.imwrite(str(pictures / f"{index}.png"), codes)
    where = str(tmp_path / "{name}.png")
    run(pictures, "--images", "--mask", mask, "--alpha", where, "--mask-edge", "hard")
    found = [cv2.imread(str(tmp_path / f"{k}.png"), cv2.IMREAD_UNCHANGED) for k in range(2)]
    given = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE).astype(int)
    assert np.array_equal(
        np.squeeze(found[0]).astype(int), given * (257 if found[0].max() > 255 else 1)
    )
    assert not np.array_equal(found[0], found[1])


def test_smoothing_reduces_the_change_between_frames(soft, tmp_path):
    clip, mask = soft
    run(clip, "--mask", mask, "--alpha", tmp_path / "plain.mkv")
    run(clip, "--mask", mask, "--alpha", tmp_path / "smooth.mkv", "--smooth", "1")
    plain, smooth = (
        movie(tmp_path / "plain.mkv").astype(float),
        movie(tmp_path / "smooth.mkv").astype(float),
    )
    assert not np.array_equal(plain, smooth)


def test_bit_depth_reaches_the_png(soft, tmp_path):
    clip, mask = soft
    run(clip, "--mask", mask, "--alpha", tmp_path / "a.%02d.png", "--bit-depth", "8", "--end", "1")
    assert [image.dtype for image in pixels(tmp_path, "a")] == [np.uint8, np.uint8]


def test_reader_is_passed_on(soft, tmp_path, monkeypatch):
    pytest.importorskip("decord")
    from vidmatte.read import decord as reading
    from vidmatte.read.movie import MovieVideo

    opened = []
    monkeypatch.setattr(
        reading, "DecordVideo", lambda *a, **k: opened.append(a) or MovieVideo(*a, **k)
    )
    clip, mask = soft
    run(clip, "--mask", mask, "--alpha", tmp_path / "a.mkv", "--reader", "decord")
    assert len(opened) == 1


def test_scribbles_and_objects_of_a_file(soft, tmp_path):
    clip, _ = soft
    scribble = np.zeros((96, 160, 4), np.uint8)
    scribble[44:52, 50:70] = (0, 255, 0, 255)
    scribble[5:10, 120:150] = (0, 0, 255, 255)
    cv2.imwrite(str(tmp_path / "s.png"), scribble)
    run(clip, "--scribbles", tmp_path / "s.png", "--alpha", tmp_path / "s.mkv", "--end", "0")
    alpha = movie(tmp_path / "s.mkv")[0] / 65535
    assert alpha[48, 60] > 0.9
    assert alpha[7, 130] < 0.1
    objects = {
        name: (vidmatte.Prompt(points=((x, 48, 1), (151 - x, 10, 0))),)
        for name, x in (("a", 60), ("b", 150))
    }
    save_prompts(tmp_path / "p.json", objects)
    for name in objects:
        run(
            clip,
            "--prompts",
            tmp_path / "p.json",
            "--object",
            name,
            "--alpha",
            tmp_path / f"{name}.mkv",
            "--end",
            "0",
        )
    assert movie(tmp_path / "a.mkv")[0, 48, 60] > 60000
    assert movie(tmp_path / "b.mkv")[0, 48, 150] > 60000
    result = run(clip, "--prompts", tmp_path / "p.json", "--alpha", tmp_path / "c.mkv", code=2)
    assert "2 objects are marked (a, b); write {object} into the name" in result.stderr


def test_range_cuts_the_sound(soft, tmp_path):
    clip, mask = soft
    run(clip, "--mask", mask, "--alpha", tmp_path / "a.mov", "--start", "2", "--end", "6")
    with av.open(str(tmp_path / "a.mov")) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert picture.frames == 5
        assert abs(float(sound.duration * sound.time_base) - 5 / 25) < 0.05


def test_frame_rate_of_a_sequence_is_the_one_given(tmp_path):
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"s.{n}.png"), np.full((48, 64, 3), 99, np.uint8))
    run(
        tmp_path / "s.%d.png", "--points", "30,20", "--fps", "23.976", "--alpha", tmp_path / "a.mov"
    )
    with av.open(str(tmp_path / "a.mov")) as container:
        assert container.streams.video[0].average_rate == Fraction(24000, 1001)


def test_outputs_get_default_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shot.v001").mkdir()
    for n in range(2):
        cv2.imwrite(
            str(tmp_path / "shot.v001" / f"plate.{n:04d}.png"), np.full((48, 64, 3), 99, np.uint8)
        )
    run("shot.v001/plate.%04d.png", "--points", "30,20")
    run("shot.v001", "--points", "30,20")
    names = {path.name for path in tmp_path.glob("*.mov")}
    assert names == {
        "plate_matte.mov",
        "plate_alpha.mov",
        "shot.v001_matte.mov",
        "shot.v001_alpha.mov",
    }


def test_points_of_an_anamorphic_clip_are_displayed_pixels(tmp_path):
    y, x = np.mgrid[:96, :160]
    picture = np.where(
        (np.hypot(y - 48, x - 120) < 25)[..., None], (230, 80, 40), (30, 90, 200)
    ).astype(np.uint8)
    clip = write_movie(tmp_path / "wide.mp4", frames=2, pictures=[picture] * 2, aspect=Fraction(2))
    # Column 120 of the frame is shown at 240.
    run(clip, "--points", "240,48 40,20,0", "--alpha", tmp_path / "a.mkv")
    alpha = movie(tmp_path / "a.mkv")[0]
    assert alpha[48, 120] > 60000
    assert alpha[48, 30] < 6000


def test_assumed_matrix_is_said(tmp_path):
    clip = write_movie(tmp_path / "c.avi", frames=2, codec="mpeg4")
    result = run(clip, "--points", "80,24", "--alpha", tmp_path / "a.mkv")
    assert "BT.601 was assumed" in result.stderr


def test_suggested_frames_are_the_least_sure_ones_away_from_the_references():
    def summary(confidence, first=0, references=()):
        return Summary(
            "c", len(confidence), 1.0, "m", "cpu", "f", (), tuple(confidence), first, references, ()
        )

    sure = [0.9] * 60
    assert summary(sure).suggested_reference_frames == ()
    dips = {10: 0.3, 12: 0.2, 40: 0.5, 55: 0.1}
    confidence = [dips.get(n, 0.9) for n in range(60)]
    assert summary(confidence).suggested_reference_frames == (12, 40, 55)
    assert summary(confidence, first=100).suggested_reference_frames == (112, 140, 155)
    assert summary(confidence, references=(50, 5)).suggested_reference_frames == (40,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--alpha", "a.mkv", "--premultiplied"), "only alpha is written"),
        (("--alpha", "a.mkv", "--foreground", "source"), "only alpha is written"),
        (("-o", "{name}.png"), "names of an image set"),
        (("--images", "-o", "{name}.mov"), "needs a file for each"),
        (("--images", "-o", "o.%04d.png"), "needs a file for each"),
        (("--images", "-o", "{name}.png", "--smooth", "0.5"), "no order in time"),
        (("--images", "-o", "{name}.png", "--fps", "25"), "no meaning for images"),
        (
            ("--ref-frame", "0", "--ref-frame", "0", "--points", "9,9", "-o", "o.mov"),
            "frame 0 is marked twice",
        ),
        (("--device", "meta", "-o", "o.mov"), "choose auto, cpu, cuda"),
        (("--working-size", "4", "-o", "o.mov"), "it must be 128 to"),
    ],
)
def test_what_does_not_fit_is_refused(movie, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    command = [str(movie), "--working-size", "128", "--points", "80,24", *arguments]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
