"""Outputs: what comes back from each format."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch

from vidmatte.frames import ColorTags, FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import FORMATS, OutputSpec, create_outputs, parse_output

BT709 = (0.2126, 0.0722)
HEIGHT, WIDTH = 90, 160


def info(width=WIDTH, height=HEIGHT, **changes):
    facts = {
        "source": "clip.mp4",
        "frame_rate": Fraction(24),
        "time_base": Fraction(1, 24),
        "color": ColorTags(1, 1, 1),
    }
    return VideoInfo(width=width, height=height, **(facts | changes))


def ramp(height=HEIGHT, width=WIDTH):
    return np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))


def hair(height=HEIGHT, width=WIDTH):
    """Strands one pixel wide, 0.35 to 1 opaque, on nothing."""
    random = np.random.default_rng(5)
    alpha = np.zeros((height, width), np.float32)
    for _ in range(60):
        strand = np.zeros_like(alpha)
        x, y = random.uniform(0, width), random.uniform(0, height)
        angle, length = random.uniform(0, 6.28), random.uniform(20, 60)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        mask = cv2.line(
            np.zeros((height, width), np.uint8), (int(x), int(y)), end, 255, 1, cv2.LINE_AA
        )
        strand = mask.astype(np.float32) / 255 * random.uniform(0.35, 1)
        alpha = np.maximum(alpha, strand)
    return alpha


def smooth_color(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / 23 + k) * np.cos(y / 31 + 2 * k) for k in range(3)]
    return (0.5 + 0.45 * np.stack(waves)).astype(np.float32)


def mattes(alphas, colors=None, *, first=0, names=()):
    """One batch of (H, W) alphas with (3, H, W) colours."""
    alphas = np.stack(alphas)
    colors = np.stack([smooth_color(*alphas.shape[1:])] * len(alphas) if colors is None else colors)
    frames = tuple(range(first, first + len(alphas)))
    source = FrameBatch(torch.from_numpy(colors), frames, frames, (1,) * len(frames), names)
    return MatteBatch(source, torch.from_numpy(alphas)[:, None], (1.0,) * len(frames))


def save(path, batches, *, alpha_only=False, like=None, **options):
    """Write batches to a path, with choices behind it or not."""
    height, width = batches[0].alpha.shape[2:]
    target = parse_output(path, alpha_only=alpha_only)
    with create_outputs([target], like=like or info(width, height), **options) as outputs:
        for batch in batches:
            outputs.write(batch)
    return outputs


def planes(path):
    """Return planes of each frame as float code values, and the bit depth.

    VP9 is read by the decoder that knows alpha.

    Red, green, blue and alpha of formats that hold them, in this order.
    """
    if path.suffix in (".webp", ".avif"):
        return animation(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name == "vp9":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [
                frame for packet in container.demux(stream) for frame in decoder.decode(packet)
            ]
        else:
            frames = list(container.decode(stream))
    found = []
    for frame in frames:
        bits = frame.format.components[0].bits
        if frame.format.is_rgb:
            packed = "rgba" if bits == 8 else "rgba64le"
            picture = (
                frame.reformat(format=packed).to_ndarray() if bits == 8 else frame.to_ndarray()
            )
            found.append((list(np.moveaxis(picture.astype(np.float64), 2, 0)), bits))
            continue
        if frame.format.name == "gray16be":
            found.append(([frame.to_ndarray().astype(np.float64)], bits))
            continue
        dtype = np.uint8 if bits == 8 else np.uint16
        rows = []
        for plane in frame.planes:
            samples = np.frombuffer(plane, dtype).reshape(
                -1, plane.line_size // np.dtype(dtype).itemsize
            )
            rows.append(samples[: plane.height, : plane.width].astype(np.float64))
        found.append((rows, bits))
    return found


def animation(path):
    """Frames of an animated image, as Pillow reads them."""
    Image = pytest.importorskip("PIL.Image")
    found = []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            found.append(
                (list(np.moveaxis(np.asarray(image.convert("RGBA"), np.float64), 2, 0)), 8)
            )
    return found


def color_of(rows, bits, form):
    """(3, H, W) RGB of what `planes` returns."""
    return (
        np.stack(rows[:3]) / (2**bits - 1)
        if form.pixel_format in RGB_FORMATS
        else rgb_of(rows, bits)
    )


def rgb_of(rows, bits, weights=BT709):
    """(3, H, W) RGB of limited-range YUV code values (ITU-R BT.709-6, 3.4 and 3.5)."""
    unit = 2.0 ** (bits - 8)
    luma = (rows[0] - 16 * unit) / (219 * unit)
    cb, cr = ((full_size(plane, luma.shape) - 128 * unit) / (224 * unit) for plane in rows[1:3])
    kr, kb = weights
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return np.stack([red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue])


def full_size(chroma, shape):
    """Chroma interpolated linearly: samples lie on every second pixel across, between two rows
    down (MPEG-2).
    """
    if chroma.shape[1] < shape[1]:
        chroma = np.stack(
            [np.interp(np.arange(shape[1]) / 2, np.arange(len(row)), row) for row in chroma]
        )
    if chroma.shape[0] < shape[0]:
        places = (np.arange(shape[0]) - 0.5) / 2
        chroma = np.stack(
            [np.interp(places, np.arange(len(column)), column) for column in chroma.T], axis=1
        )
    return chroma


def alpha_of(rows, bits, *, alpha_only, full_range):
    """(H, W) alpha of code values: the fourth plane, or luma."""
    if not alpha_only:
        return rows[3] / (2**bits - 1)
    unit = 2.0 ** (bits - 8)
    return (
        rows[0] / (2**bits - 1)
        if full_range
        else np.clip((rows[0] - 16 * unit) / (219 * unit), 0, 1)
    )


RGB_FORMATS = ("rgba64be", "argb", "gbrap16le", "bgra", "rgba")
EXACT_16, EXACT_8 = (0.5 / 65535 + 1e-6, 0.3 / 65535), (0.5 / 255 + 1e-6, 0.0012)
ALPHA_LIMITS = {
    (".mov", False, "prores-4444"): (0.0007, 0.0003),
    (".mov", False, "prores-4444-xq"): (0.0007, 0.0003),
    (".mov", False, "png"): EXACT_16,
    (".mov", False, "qtrle"): EXACT_8,
    (".mkv", False, "ffv1"): EXACT_16,
    (".webm", False, "vp9"): (0.09, 0.007),
    (".webp", False, "webp"): EXACT_8,
    (".avif", False, "avif"): (0.06, 0.006),
    (".mkv", True, "ffv1"): EXACT_16,
    (".mov", True, "prores-422-hq"): (0.0055, 0.0006),
    (".mov", True, "dnxhr-444"): (0.012, 0.001),
    (".mov", True, "png"): EXACT_16,
    (".mp4", True, "h264"): (0.006, 0.0012),
    (".webm", True, "vp9"): EXACT_8,
    (".mxf", True, "dnxhr-444"): (0.012, 0.001),
}
"""Largest and mean difference over a ramp and hair."""
COLOR_LIMITS = {
    (".mov", False, "prores-4444"): (0.006, 0.001),
    (".mov", False, "prores-4444-xq"): (0.006, 0.001),
    (".mov", False, "png"): EXACT_16,
    (".mov", False, "qtrle"): EXACT_8,
    (".mkv", False, "ffv1"): EXACT_16,
    (".webm", False, "vp9"): (0.05, 0.006),
    (".webp", False, "webp"): (0.06, 0.01),
    (".avif", False, "avif"): (0.04, 0.006),
    (".mov", False, "on-black"): (0.02, 0.002),
    (".mp4", False, "on-black"): (0.06, 0.006),
    (".mxf", False, "on-black"): (0.02, 0.002),
}
"""Largest and mean difference over a chart and a smooth picture where they can be seen."""


def key_of(form):
    return form.extension, form.alpha_only, form.name


MOVIES = [
    pytest.param(form, id="".join(map(str, key_of(form)))) for form in FORMATS if form.is_movie
]
WITH_ALPHA = [
    pytest.param(*movie.values, id=movie.id) for movie in MOVIES if not movie.values[0].over_black
]
WITH_COLOR = [
    pytest.param(*movie.values, id=movie.id) for movie in MOVIES if not movie.values[0].alpha_only
]


def test_table_is_all_tested():
    movies = {key_of(form): form for form in FORMATS if form.is_movie}
    assert {key for key, form in movies.items() if not form.over_black} == set(ALPHA_LIMITS)
    assert {key for key in movies if not key[1]} == set(COLOR_LIMITS)
    images = {(form.extension, form.alpha_only) for form in FORMATS if not form.is_movie}
    assert images == {(end, alpha_only) for end in (".png", ".exr") for alpha_only in (False, True)}


@pytest.mark.parametrize("form", WITH_ALPHA)
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (47, 63), (1, 1)])
def test_alpha_comes_back_at_any_size(tmp_path, form, size):
    if form.extension == ".avif":
        pytest.importorskip("PIL")
    size = tuple(max(pair) for pair in zip(size, form.smallest[::-1], strict=True))
    path = tmp_path / f"out{form.extension}"
    alphas = [ramp(*size), hair(*size), np.zeros(size, np.float32), np.ones(size, np.float32)]
    batches = [mattes(alphas[:3]), mattes(alphas[3:], first=3)]
    save(f"{path}:{form.name}", batches, alpha_only=form.alpha_only)
    found = [
        alpha_of(*frame, alpha_only=form.alpha_only, full_range=form.full_range)
        for frame in planes(path)
    ]
    assert len(found) == len(alphas)
    for wanted, back in zip(alphas, found, strict=True):
        assert back.shape == size
        largest, mean = ALPHA_LIMITS[key_of(form)]
        assert np.abs(back - wanted).max() <= largest
        assert np.abs(back - wanted).mean() <= (mean if back.size > 1 else largest)


def chart(height, width):
    """Patches of the primaries, their mixtures, gray and skin, each at least 16 pixels wide and
    high.
    """
    colors = [
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (0, 1, 1),
        (1, 0, 1),
        (1, 1, 0),
        (1, 1, 1),
        (0, 0, 0),
        (0.5, 0.5, 0.5),
        (0.86, 0.62, 0.52),
    ]
    patches = np.array(colors, np.float32).reshape(2, 5, 3).transpose(2, 0, 1)
    return cv2.resize(
        patches.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_NEAREST
    ).transpose(2, 0, 1)


def away_from_edges(height, width):
    """Pixels of a chart that lie 8 or more from the border of their patch."""
    inside = [
        np.abs((np.arange(n) * parts / n) % 1 - 0.5) < 0.5 - 8 * parts / n
        for n, parts in ((height, 2), (width, 5))
    ]
    return inside[0][:, None] & inside[1][None]


@pytest.mark.parametrize("form", WITH_COLOR)
def test_color_comes_back(tmp_path, form):
    if form.extension == ".avif":
        pytest.importorskip("PIL")
    height, width = (max(pair) for pair in zip((HEIGHT, WIDTH), form.smallest[::-1], strict=True))
    path = tmp_path / f"out{form.extension}"
    pictures = [np.ascontiguousarray(chart(height, width)), smooth_color(height, width)]
    whole = np.ones((height, width), np.float32)
    save(
        f"{path}:{form.name}",
        [mattes([whole] * 2, pictures), mattes([0.5 * whole], pictures[1:], first=2)],
    )
    found = [color_of(rows, bits, form) for rows, bits in planes(path)]
    largest, mean = COLOR_LIMITS[key_of(form)]
    for wanted, back in zip(pictures, found, strict=False):
        difference = np.abs(back - wanted)
        difference = (
            difference[:, away_from_edges(height, width)] if wanted is pictures[0] else difference
        )
        assert difference.mean() <= mean
        assert difference.max() <= largest
    straight = np.abs(found[2] - pictures[1] * (0.5 if form.over_black else 1))
    assert straight.max() <= largest


@pytest.mark.parametrize(
    ("matrix", "weights"),
    [(1, BT709), (6, (0.299, 0.114)), (9, (0.2627, 0.0593)), (0, BT709), (7, BT709)],
)
def test_matrix_of_the_source_is_used(tmp_path, matrix, weights):
    path = tmp_path / "out.mov"
    patch = np.broadcast_to(
        np.array([0.9, 0.1, 0.2], np.float32)[:, None, None], (3, 32, 32)
    ).copy()
    batch = mattes([np.ones((32, 32), np.float32)], [patch])
    save(path, [batch], like=info(32, 32, color=ColorTags(1, 1, matrix)))
    ((rows, bits),) = planes(path)
    assert np.abs(rgb_of(rows, bits, weights) - patch).max() < 0.003


def test_chroma_of_half_size_lies_where_readers_take_it_from():
    """Across on every second pixel, its neighbours weighing half as much; down, the mean of two
    rows.
    """
    from vidmatte.write.planes import video_frame

    color = torch.zeros(3, 3, 5)
    color[0, 0, 0] = color[0, 1, 0] = (
        1  # pure red: Cb = -0.2126 / 1.8556, Cr = 0.5, of which codes span 224
    )
    color[0, 2, 3] = 1
    frame = video_frame(color, torch.ones(3, 5), pixel_format="yuva420p", tags=ColorTags(1, 1, 1))
    blue, red = (
        np.frombuffer(frame.planes[n], np.uint8).reshape(-1, frame.planes[n].line_size)[:2, :3]
        for n in (1, 2)
    )
    # At the left edge the first pixel stands for the one that is missing before it: 3/4; a
    # repeated last row.
    assert red.tolist() == [[128 + 84, 128, 128], [128, 128 + 28, 128 + 28]]
    assert blue.tolist() == [[128 - 19, 128, 128], [128, 128 - 6, 128 - 6]]


@pytest.mark.parametrize("pixel_format", ["yuva420p", "yuv422p10le"])
def test_chroma_of_a_ramp_is_not_moved(pixel_format):
    """A sample holds the chroma of the pixel it lies on: a mean of two pixels would be half a step
    off.
    """
    from vidmatte.write.planes import video_frame

    color = torch.linspace(0, 1, 64).expand(3, 8, 64).clone()
    color[1:] = 0
    frame = video_frame(
        color, torch.ones(8, 64), pixel_format=pixel_format, tags=ColorTags(1, 1, 1)
    )
    bits = frame.format.components[0].bits
    plane = frame.planes[2]
    codes = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16).reshape(plane.height, -1)[
        :, : plane.width
    ]
    wanted = (128 + 224 * 0.5 * np.arange(2, 64, 2) / 63) * 2 ** (bits - 8)
    assert np.abs(codes[:, 1:] - wanted).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("premultiplied", "wanted"), [(False, (0.8, 0.4, 0.2)), (True, (0.4, 0.2, 0.1))]
)
@pytest.mark.parametrize("extension", [".mov", ".webm"])
def test_premultiplied_is_a_product_in_display_space(tmp_path, extension, premultiplied, wanted):
    path = tmp_path / f"out{extension}"
    patch = np.broadcast_to(
        np.array([0.8, 0.4, 0.2], np.float32)[:, None, None], (3, 32, 32)
    ).copy()
    save(path, [mattes([np.full((32, 32), 0.5, np.float32)], [patch])], premultiplied=premultiplied)
    ((rows, bits),) = planes(path)
    assert np.abs(rgb_of(rows, bits) - np.array(wanted)[:, None, None]).max() < 0.012
    assert np.abs(rows[3] / (2**bits - 1) - 0.5).max() < 0.004


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_png_is_exact_and_has_no_color_where_there_is_no_alpha(tmp_path, bit_depth, premultiplied):
    peak = 2**bit_depth - 1
    outputs = save(
        tmp_path / "f_%04d.png",
        [mattes([ramp(), hair()])],
        bit_depth=bit_depth,
        premultiplied=premultiplied,
    )
    for number, alpha in enumerate([ramp(), hair()]):
        image = cv2.imread(str(tmp_path / f"f_{number:04d}.png"), cv2.IMREAD_UNCHANGED).astype(
            np.float64
        )
        assert np.abs(image[..., 3] - alpha * peak).max() <= 0.5 + 1e-2
        color = smooth_color() * (alpha if premultiplied else 1) * (image[..., 3] > 0)
        assert np.abs(image[..., 2::-1].transpose(2, 0, 1) - color * peak).max() <= 0.5 + 1e-2
    assert outputs.files[0].pixel_format == ("rgba" if bit_depth == 8 else "rgba64be")


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_gray_png_is_exact_at_odd_sizes(tmp_path, bit_depth):
    save(tmp_path / "%d.png", [mattes([ramp(47, 63)])], alpha_only=True, bit_depth=bit_depth)
    image = cv2.imread(str(tmp_path / "0.png"), cv2.IMREAD_UNCHANGED)
    assert image.ndim == 2
    assert np.abs(image - ramp(47, 63).astype(np.float64) * (2**bit_depth - 1)).max() <= 0.5 + 1e-2


def test_sequences_keep_their_first_number(tmp_path):
    save(tmp_path / "%06d.png", [mattes([ramp()] * 2, first=3)], like=info(first_number=1001))
    assert sorted(os.listdir(tmp_path)) == ["001004.png", "001005.png"]


def test_sets_of_images_keep_names_and_sizes(tmp_path):
    batches = [mattes([ramp(20, 30)], names=("cat",)), mattes([ramp(40, 10)], names=("a.b",))]
    outputs = save(tmp_path / "{name}_matte.png", batches, alpha_only=True, like=info(30, 20))
    assert sorted(os.listdir(tmp_path)) == ["a.b_matte.png", "cat_matte.png"]
    assert cv2.imread(str(tmp_path / "a.b_matte.png"), cv2.IMREAD_UNCHANGED).shape == (40, 10)
    assert outputs.files[0].frames == 2


def test_files_say_what_was_written(tmp_path):
    targets = [
        OutputSpec(tmp_path / "shot.mov"),
        OutputSpec(tmp_path / "shot.mp4", alpha_only=True),
    ]
    with create_outputs(targets, like=info()) as outputs:
        outputs.write(mattes([ramp()] * 3))
        assert outputs.files == ()
        assert not (tmp_path / "shot.mov").exists()
    color, alpha = outputs.files
    assert (color.path, color.kind, color.codec, color.pixel_format, color.frames) == (
        tmp_path / "shot.mov",
        "colour",
        "prores_ks",
        "yuva444p10le",
        3,
    )
    assert (alpha.kind, alpha.codec, alpha.pixel_format, alpha.frames) == (
        "alpha",
        "libx264",
        "yuv420p",
        3,
    )
    assert sorted(os.listdir(tmp_path)) == ["shot.mov", "shot.mp4"]


@pytest.mark.parametrize("form", MOVIES)
def test_two_runs_give_the_same_bytes(tmp_path, form):
    if form.extension == ".avif":
        pytest.importorskip("PIL")
    size = [max(pair) for pair in zip((HEIGHT, WIDTH), form.smallest[::-1], strict=True)]
    paths = [tmp_path / f"{name}{form.extension}" for name in ("one", "two")]
    for path in paths:
        alphas = [ramp(*size), hair(*size), ramp(*size)]
        save(f"{path}:{form.name}", [mattes(alphas)], alpha_only=form.alpha_only)
    assert paths[0].read_bytes() == paths[1].read_bytes()
