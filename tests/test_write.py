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
from vidmatte.write import FORMATS, Target, create_outputs

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
        mask = cv2.line(np.zeros((height, width), np.uint8), (int(x), int(y)), end, 255, 1, cv2.LINE_AA)
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
    height, width = batches[0].alpha.shape[2:]
    with create_outputs([Target(path, alpha_only)], like=like or info(width, height), **options) as outputs:
        for batch in batches:
            outputs.write(batch)
    return outputs


def planes(path):
    """Planes of each frame as float code values, and the bit depth; VP9 through the decoder that knows alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name == "vp9":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        else:
            frames = list(container.decode(stream))
    found = []
    for frame in frames:
        bits = frame.format.components[0].bits
        dtype = np.uint8 if bits == 8 else np.uint16
        rows = []
        for plane in frame.planes:
            samples = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
            rows.append(samples[: plane.height, : plane.width].astype(np.float64))
        found.append((rows, bits))
    return found


def rgb_of(rows, bits, weights=BT709):
    """(3, H, W) RGB of limited-range YUV code values (ITU-R BT.709-6, 3.4 and 3.5), chroma repeated."""
    unit = 2.0 ** (bits - 8)
    luma = (rows[0] - 16 * unit) / (219 * unit)
    height, width = luma.shape
    halves = [1 if plane.shape == luma.shape else 2 for plane in rows[1:3]]
    cb, cr = (
        (plane.repeat(n, 0).repeat(n, 1)[:height, :width] - 128 * unit) / (224 * unit)
        for plane, n in zip(rows[1:3], halves, strict=True)
    )
    kr, kb = weights
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return np.stack([red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue])


def alpha_of(rows, bits, *, alpha_only, full_range):
    """(H, W) alpha of code values: the fourth plane, or luma."""
    if not alpha_only:
        return rows[3] / (2**bits - 1)
    unit = 2.0 ** (bits - 8)
    return rows[0] / (2**bits - 1) if full_range else np.clip((rows[0] - 16 * unit) / (219 * unit), 0, 1)


ALPHA_LIMITS = {
    (".mov", False): (0.0007, 0.0003),
    (".webm", False): (0.09, 0.007),
    (".mkv", True): (0.5 / 65535 + 1e-6, 0.3 / 65535),
    (".mov", True): (0.0055, 0.0006),
    (".mp4", True): (0.006, 0.0012),
    (".webm", True): (0.5 / 255 + 1e-6, 0.0012),
}
"""Largest and mean difference over a ramp and hair."""
MOVIES = [key for key, form in FORMATS.items() if form.is_movie]


def test_table_is_all_tested():
    assert set(MOVIES) == set(ALPHA_LIMITS)
    assert set(FORMATS) - set(MOVIES) == {(end, alpha_only) for end in (".png", ".exr") for alpha_only in (False, True)}


@pytest.mark.parametrize(("extension", "alpha_only"), MOVIES)
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (47, 63), (1, 1)])
def test_alpha_comes_back_at_any_size(tmp_path, extension, alpha_only, size):
    path = tmp_path / f"out{extension}"
    alphas = [ramp(*size), hair(*size), np.zeros(size, np.float32), np.ones(size, np.float32)]
    save(path, [mattes(alphas[:3]), mattes(alphas[3:], first=3)], alpha_only=alpha_only)
    full_range = FORMATS[extension, alpha_only].full_range
    found = [alpha_of(*frame, alpha_only=alpha_only, full_range=full_range) for frame in planes(path)]
    assert len(found) == len(alphas)
    for wanted, back in zip(alphas, found, strict=True):
        assert back.shape == size
        largest, mean = ALPHA_LIMITS[extension, alpha_only]
        assert np.abs(back - wanted).max() <= largest
        assert np.abs(back - wanted).mean() <= (mean if back.size > 1 else largest)


@pytest.mark.parametrize(("extension", "mean", "largest"), [(".mov", 0.001, 0.006), (".webm", 0.006, 0.05)])
def test_color_comes_back(tmp_path, extension, mean, largest):
    path = tmp_path / f"out{extension}"
    save(path, [mattes([ramp()] * 3)])
    for rows, bits in planes(path):
        difference = np.abs(rgb_of(rows, bits) - smooth_color())
        assert difference.mean() < mean
        assert difference.max() < largest


@pytest.mark.parametrize(
    ("matrix", "weights"), [(1, BT709), (6, (0.299, 0.114)), (9, (0.2627, 0.0593)), (0, BT709), (7, BT709)]
)
def test_matrix_of_the_source_is_used(tmp_path, matrix, weights):
    path = tmp_path / "out.mov"
    patch = np.broadcast_to(np.array([0.9, 0.1, 0.2], np.float32)[:, None, None], (3, 32, 32)).copy()
    batch = mattes([np.ones((32, 32), np.float32)], [patch])
    save(path, [batch], like=info(32, 32, color=ColorTags(1, 1, matrix)))
    ((rows, bits),) = planes(path)
    assert np.abs(rgb_of(rows, bits, weights) - patch).max() < 0.003


def test_chroma_of_half_size_is_the_mean_of_its_pixels():
    from vidmatte.write.planes import video_frame

    color = torch.zeros(3, 3, 3)
    color[0, 0, 0] = 1  # pure red: Cb = -0.2126 / 1.8556, Cr = 0.5
    color[0, 2, 2] = 1
    frame = video_frame(color, torch.ones(3, 3), pixel_format="yuva420p", tags=ColorTags(1, 1, 1))
    blue = np.frombuffer(frame.planes[1], np.uint8).reshape(-1, frame.planes[1].line_size)[:2, :2]
    red = np.frombuffer(frame.planes[2], np.uint8).reshape(-1, frame.planes[2].line_size)[:2, :2]
    assert red.tolist() == [[128 + 28, 128], [128, 240]]
    assert blue.tolist() == [[122, 128], [128, 102]]


@pytest.mark.parametrize(("premultiplied", "wanted"), [(False, (0.8, 0.4, 0.2)), (True, (0.4, 0.2, 0.1))])
@pytest.mark.parametrize("extension", [".mov", ".webm"])
def test_premultiplied_is_a_product_in_display_space(tmp_path, extension, premultiplied, wanted):
    path = tmp_path / f"out{extension}"
    patch = np.broadcast_to(np.array([0.8, 0.4, 0.2], np.float32)[:, None, None], (3, 32, 32)).copy()
    save(path, [mattes([np.full((32, 32), 0.5, np.float32)], [patch])], premultiplied=premultiplied)
    ((rows, bits),) = planes(path)
    assert np.abs(rgb_of(rows, bits) - np.array(wanted)[:, None, None]).max() < 0.012
    assert np.abs(rows[3] / (2**bits - 1) - 0.5).max() < 0.004


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_png_is_exact_and_has_no_color_where_there_is_no_alpha(tmp_path, bit_depth, premultiplied):
    peak = 2**bit_depth - 1
    outputs = save(
        tmp_path / "f_%04d.png", [mattes([ramp(), hair()])], bit_depth=bit_depth, premultiplied=premultiplied
    )
    for number, alpha in enumerate([ramp(), hair()]):
        image = cv2.imread(str(tmp_path / f"f_{number:04d}.png"), cv2.IMREAD_UNCHANGED).astype(np.float64)
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
    targets = [Target(tmp_path / "shot.mov"), Target(tmp_path / "shot.mp4", alpha_only=True)]
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
    assert (alpha.kind, alpha.codec, alpha.pixel_format, alpha.frames) == ("alpha", "libx264", "yuv420p", 3)
    assert sorted(os.listdir(tmp_path)) == ["shot.mov", "shot.mp4"]


@pytest.mark.parametrize(("extension", "alpha_only"), MOVIES)
def test_two_runs_give_the_same_bytes(tmp_path, extension, alpha_only):
    for name in ("one", "two"):
        save(tmp_path / f"{name}{extension}", [mattes([ramp(), hair(), ramp()])], alpha_only=alpha_only)
    assert (tmp_path / f"one{extension}").read_bytes() == (tmp_path / f"two{extension}").read_bytes()
