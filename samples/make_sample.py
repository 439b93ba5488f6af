"""Make the sample clip, its exact alpha, its mask and its prompts.

    python samples/make_sample.py [--out DIR]

An astronaut's portrait is cut out of its photograph once, then filmed by a simulated hand-held
camera in front of a launch pad at dusk. Each frame is composed as alpha * F + (1 - alpha) * B with
the very 8-bit alpha that is stored, so the alpha of the clip is known exactly; only the H.264
coding of the colour stands between the two files.

Needs the `dev` extra (pymatting, scikit-image). Reads only pictures inside the scikit-image wheel.
Fixed seeds, one encoder thread: two runs on one machine give the same bytes.

Coordinates: "picture" points (u, v) are pixels of the 512x512 portrait, "frame" points (x, y)
pixels of the clip. All colour is display-referred RGB in 0..1, as an editor composites it, except
inside the lens blur.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from pymatting import estimate_alpha_cf, estimate_foreground_ml
from skimage import data

SAMPLE = Path(__file__).parents[1] / "vidmatte" / "sample"
WIDTH, HEIGHT, RATE, FRAMES = 1280, 720, 25, 100
SHUTTER = 0.5  # part of the frame time during which the shutter is open (180 degrees)
SUBFRAMES = 8
PLATE = 3  # pixels of the cut-out plate per picture pixel, so that bilinear sampling loses nothing
GRAIN = 0.007  # standard deviation of the luminance grain
LIMITED_RANGE, FULL_RANGE, BT709 = 1, 2, 1  # as ITU-T H.273 and FFmpeg number them
SAMPLE_RATE = 48000
# Row of the launch pad's plate where water begins, and how many rows of it there are.
SHORE, WATER = 854, 200
LOOSE_HAIRS = 140
# Index into HAIR: from there the hair is combed clockwise, before it the other way.
HAIR_PARTING = 12

Motion = Callable[[float], tuple[np.ndarray, np.ndarray]]

# Outline of the portrait, placed by eye at 400 % and then checked over green and blue. Clockwise,
# (u, v).
# fmt: off
HAIR = [
    (170.5, 119), (167, 115), (162, 109), (156, 101), (155, 92), (154, 83), (153, 72), (155, 63),
    (158, 57), (165, 50), (172, 45), (182, 40), (190, 34.5), (193, 30), (200, 24), (210, 20.5),
    (220, 18), (231, 16), (240, 16.5), (250, 19.5), (260, 23), (270, 28), (280, 34.5), (287, 40),
    (292, 48), (296, 58), (298, 67), (300, 75), (301, 85), (300, 95), (298, 105), (294, 112),
    (288, 119), (281, 126), (278, 131),
]
BODY = [
    (274, 135.5), (270, 137), (267.5, 136), (266, 143), (263, 150), (259, 158), (256, 166),
    (254, 174), (263, 178), (275, 187), (287, 198), (296, 212), (302, 228), (304.5, 234),
    (313, 239), (320, 243), (330, 253), (340, 263), (345, 275), (348, 284), (352, 284), (353, 288),
    (355, 300), (357, 315), (359, 325), (362.5, 331), (360.5, 333), (361, 342), (364, 348),
    (370, 348), (380, 345.5), (395, 343.5), (417, 344.5), (430, 348), (440, 351), (450, 357),
    (460, 363), (470, 373), (478, 384), (484, 395), (489, 407), (493, 420), (495, 433),
    (496.5, 445), (497.5, 452), (503, 455), (504, 459), (504, 470), (512, 490), (512, 512),
    (40, 512), (30, 500), (27, 480), (24, 460), (23, 445), (24, 430), (21, 415), (19, 395),
    (22, 380), (25, 365), (26, 350), (27, 340), (31, 330), (33, 318), (38, 308), (41, 295),
    (44, 285), (49, 275), (54, 267), (60, 255), (67, 245), (75, 237), (85, 231), (95, 224),
    (102, 217), (110, 207), (114, 205), (113, 197), (117, 195), (113, 191), (113, 188), (121, 186),
    (122, 178), (125, 172), (130, 164), (140, 155), (150, 151), (165, 149), (175, 148.5),
    (185, 149), (183, 142), (182, 135), (181, 131.5), (177, 130), (172, 124),
]
# fmt: on
# Face, hair, three on the suit, helmet as picture points; sky, rocket, evening clouds, dark water
# as frame points.
OBJECT_POINTS = [(225, 115), (235, 40), (80, 320), (195, 325), (325, 290), (415, 405)]
BACKGROUND_POINTS = [(150, 180), (1090, 250), (950, 525), (1250, 690)]


def draw_outline(points: list[tuple[float, float]], *, thickness: int | None = None) -> np.ndarray:
    """The polygon filled, or the open line with a thickness in pixels: (512, 512) bool."""
    canvas = np.zeros((512, 512), np.uint8)
    fixed_point = np.rint(np.array(points) * 16).astype(np.int32)
    if thickness is None:
        cv2.fillPoly(canvas, [fixed_point], 255, cv2.LINE_8, 4)
    else:
        cv2.polylines(canvas, [fixed_point], False, 255, thickness, cv2.LINE_8, 4)
    return canvas > 0


def cut_out_portrait() -> tuple[np.ndarray, np.ndarray]:
    """Return foreground colour (512, 512, 3) and alpha (512, 512) of the portrait.

    The colour is straight; flag and rocket are not included.

    The trimap is the outline above with an unknown band: wide along the hair, where strands leave
    the outline, narrow along suit and helmet, where the red flag behind an orange sleeve would
    mislead a colour-line method.
    """
    picture = data.astronaut() / 255.0
    trimap = draw_outline(HAIR + BODY).astype(float)
    narrow, wide = (
        draw_outline([HAIR[-1], *BODY, HAIR[0]], thickness=5),
        draw_outline(HAIR, thickness=13),
    )
    trimap[narrow | wide] = 0.5
    alpha = estimate_alpha_cf(picture, trimap)
    foreground = estimate_foreground_ml(picture, alpha)
    # Film grain of the photograph leaves a haze of a few per cent on both sides of the band.
    alpha = np.clip((alpha - 0.06) / 0.80, 0, 1)
    return foreground.astype(np.float32), alpha.astype(np.float32)


def draw_strands(foreground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Loose hairs around the head as a premultiplied RGBA layer at plate size.

    At 512 pixels the photograph shows hardly any single hairs; these give the clip what its size
    would resolve. Each starts inside the outline, leaves along it and bends; its colour is that of
    the hair at its root.
    """
    layer = np.zeros((512 * PLATE, 512 * PLATE, 4), np.float32)
    head = layer[: 160 * PLATE]  # a view: hairs end above the collar
    outline = np.array(HAIR)
    for _ in range(LOOSE_HAIRS):
        i, part = rng.integers(len(outline) - 1), rng.uniform()
        edge = outline[i + 1] - outline[i]
        along = edge / np.hypot(*edge)
        outward = np.array([along[1], -along[0]])
        root = outline[i] + part * edge - rng.uniform(1, 5) * outward
        s = np.linspace(0, rng.uniform(9, 26), 14)[:, None]
        rise = (
            s * rng.uniform(0.15, 0.65)
            - s**2 * rng.uniform(0, 0.016)
            + 0.5 * np.sin(s * rng.uniform(0.2, 0.5))
        )
        combed = along if i > HAIR_PARTING else -along
        path = root + s * combed + rise * outward
        cover = draw_tapering(path, strength=rng.uniform(0.25, 0.8), height=160)[..., None]
        color = foreground[int(root[1]), int(root[0])] * rng.uniform(0.75, 1.25)
        head[:] = np.concatenate([cover * color, cover], axis=2) + (1 - cover) * head
    return layer


def draw_tapering(path: np.ndarray, *, strength: float, height: int) -> np.ndarray:
    """Return coverage in 0..1, (height * PLATE, 512 * PLATE), of a hair that fades to its tip."""
    fine = 2 * PLATE  # drawn twice as large, then averaged: a hair is thinner than a plate pixel
    stroke = np.zeros((height * fine, 512 * fine), np.uint8)
    for j in range(len(path) - 1):
        ends = np.rint((path[j : j + 2] + 0.5) * fine * 16).astype(np.int32)
        cv2.polylines(
            stroke, [ends], False, int(255 * strength * (1 - j / len(path))), 2, cv2.LINE_AA, 4
        )
    return cv2.resize(stroke, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) / np.float32(255)


def make_portrait_plate() -> np.ndarray:
    """Return the cut-out with its loose hairs.

    It is premultiplied RGBA, (512 * PLATE, 512 * PLATE, 4) float32.
    """
    foreground, alpha = cut_out_portrait()
    # A camera's own sharpening.
    foreground += 0.5 * (foreground - cv2.GaussianBlur(foreground, (0, 0), 1.2))
    # A cooler, later hour.
    foreground = np.clip(foreground, 0, 1) ** 1.08 * np.float32([0.84, 0.87, 0.91])
    strands = draw_strands(foreground, np.random.default_rng(1))
    plate = np.dstack([foreground * alpha[..., None], alpha])
    plate = cv2.resize(plate, None, fx=PLATE, fy=PLATE, interpolation=cv2.INTER_CUBIC)
    plate = np.clip(plate, 0, 1)
    plate = strands + (1 - strands[..., 3:]) * plate
    plate[..., :3] = np.minimum(plate[..., :3], plate[..., 3:])
    return plate


def make_launch_pad_plate() -> np.ndarray:
    """Return the launch pad out of focus, above its reflection: (H, W, 3) float32.

    Its size is twice that of the photograph.

    Blurred with a disc in linear light, after giving lamps back the brightness that the photograph
    clipped, as a lens does: small lamps become discs instead of vanishing.
    """
    picture = cv2.resize(
        data.rocket() / np.float32(255), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC
    )
    light = np.clip(picture, 0, 1) ** 2.2 * 2.2
    lamps = np.clip((light.max(axis=2, keepdims=True) / 2.2 - 0.55) / 0.45, 0, 1)
    light *= 1 + 5 * lamps**2
    y, x = np.mgrid[-10:11, -10:11]
    disc = np.clip(9.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    water = 0.35 * cv2.blur(light[::-1][:WATER], (1, 41)) * np.float32([0.8, 0.95, 1.0])
    light = cv2.filter2D(
        np.vstack([light, water]), -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101
    )
    return (light / (1 + 0.25 * light)) ** np.float32(1 / 2.2)


def wander(t: float, seed: int, *, slow: float = 0.35) -> float:
    """Return a smooth random motion over seconds, about -1..1, like a hand or a standing body."""
    rng = np.random.default_rng(seed)
    rates, phases = slow * np.array([1.0, 2.3, 4.9, 9.1]), rng.uniform(0, 2 * np.pi, 4)
    return float(np.sin(2 * np.pi * rates * t + phases) @ [0.55, 0.3, 0.12, 0.05])


def step(t: float, start: float, end: float) -> float:
    """0 before start, 1 after end, smooth between."""
    s = min(max((t - start) / (end - start), 0.0), 1.0)
    return s * s * (3 - 2 * s)


def portrait_map(t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture points (u, v) under the frame's pixels: two (HEIGHT, WIDTH) arrays."""
    scale = 1.55 * (1 + 0.035 * t / 4)
    angle = np.deg2rad(0.9 * wander(t, 11) + 0.5 * wander(t, 12, slow=0.6))
    sway = 14 * wander(t, 13) + 64 * (step(t, 1.75, 2.25) - 0.7 * step(t, 3.0, 3.6))
    across = 560 + sway + 5 * wander(t, 21, slow=0.8)
    down = 702 + 4 * wander(t, 14, slow=0.7) + 4 * wander(t, 22, slow=0.8)
    x = np.arange(WIDTH, dtype=np.float32) - np.float32(across)
    y = np.arange(HEIGHT, dtype=np.float32)[:, None] - np.float32(down)
    cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    u, v = 256 + cos * x + sin * y, 430 - sin * x + cos * y
    # The body's own motion varies slowly over the frame: worked out on every eighth pixel, then
    # enlarged.
    coarse = (slice(3, None, 8), slice(3, None, 8))
    du, dv = body_motion(u[coarse], v[coarse], t)
    return u + cv2.resize(du, (WIDTH, HEIGHT)), v + cv2.resize(dv, (WIDTH, HEIGHT))


def body_motion(u: np.ndarray, v: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return non-rigid motion as offsets of picture points: head tilt, swaying hair, breathing."""
    head = 1 / (1 + np.exp((v - 165) / 9))  # 1 above the collar, 0 below
    tilt = np.deg2rad(
        2.6 * wander(t, 15, slow=0.45) + 3.0 * (step(t, 1.65, 2.15) - step(t, 2.9, 3.5))
    )
    du, dv = head * tilt * (v - 175), -head * tilt * (u - 222)
    rim = np.clip((np.hypot((u - 227) / 74, (v - 80) / 66) - 0.75) / 0.4, 0, 1) * head
    wave = np.sin(2 * np.pi * 1.3 * t + 0.045 * v) + 0.6 * np.sin(2 * np.pi * 2.1 * t + 0.09 * u)
    du += rim * 1.6 * wave
    dv += rim * 0.8 * np.sin(2 * np.pi * 1.7 * t + 0.06 * u)
    chest = np.exp(-(((u - 230) / 130) ** 2) - ((v - 330) / 90) ** 2)
    dv += chest * 1.8 * np.sin(2 * np.pi * 0.3 * t)
    return du.astype(np.float32), dv.astype(np.float32)


def launch_pad_map(t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the plate points under the frame's pixels; below the shore they show water."""
    scale = 1 + 0.02 * t / 4
    angle = np.deg2rad(0.45 * wander(t, 23, slow=0.8))
    across = 640 + 5 * wander(t, 21, slow=0.8) - 95 * step(t, -1.0, 5.0)
    down = 360 + 4 * wander(t, 22, slow=0.8)
    x = np.arange(WIDTH, dtype=np.float32) - np.float32(across)
    y = np.arange(HEIGHT, dtype=np.float32)[:, None] - np.float32(down)
    cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    u, v = 180 + cos * x + sin * y, 592 - sin * x + cos * y
    depth = np.clip(v - SHORE, 0, 60)
    ripple = np.sin(0.31 * v - 5 * t + 0.010 * u) + np.sin(0.53 * v + 3.1 * t - 0.017 * u)
    return u + depth * 0.06 * ripple, v + depth * 0.04 * ripple


def expose(t: float) -> float:
    """Gain of the automatic exposure: it gives way slowly."""
    return 1 + 0.05 * wander(t, 31, slow=0.3)


def open_shutter(plate: np.ndarray, motion: Motion, n: int, border: int) -> np.ndarray:
    """What frame n sees of a moving plate: the mean over the time that the shutter is open.

    Of a premultiplied plate this blurs colour and alpha together, as film does.
    """
    total = np.zeros((HEIGHT, WIDTH, plate.shape[2]), np.float32)
    for k in range(SUBFRAMES):
        u, v = motion((n + SHUTTER * (k + 0.5) / SUBFRAMES) / RATE)
        total += cv2.remap(plate, u, v, cv2.INTER_LINEAR, borderMode=border)
    return total / SUBFRAMES


def portrait_plate_map(t: float) -> tuple[np.ndarray, np.ndarray]:
    """`portrait_map` in pixels of the plate."""
    u, v = portrait_map(t)
    return (u + 0.5) * PLATE - 0.5, (v + 0.5) * PLATE - 0.5


def film_grain(rng: np.random.Generator) -> np.ndarray:
    """Grain of one frame, (HEIGHT, WIDTH, 3): mostly luminance, a little larger than a pixel."""
    gray, tint = (rng.standard_normal((HEIGHT, WIDTH, channels), np.float32) for channels in (1, 3))
    kernel = cv2.getGaussianKernel(5, 0.6)
    return (
        GRAIN
        * cv2.sepFilter2D(gray + 0.3 * tint, -1, kernel, kernel)
        / np.float32((kernel**2).sum())
    )


def render(portrait: np.ndarray, launch_pad: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield frames in order: rgb (HEIGHT, WIDTH, 3) float32 in 0..1, and its 8-bit alpha.

    Alpha is (HEIGHT, WIDTH) and the one that rgb is composed with.

    Light of the surroundings spills over the outline, exposure and grain fall on both layers alike:
    all of it is part of F and B, so that the equation holds to the last bit.
    """
    rng = np.random.default_rng(2)
    x, y = (
        np.linspace(-1, 1, WIDTH, dtype=np.float32),
        np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None],
    )
    vignette = (1 - 0.12 * (x**2 + 0.6 * y**2))[..., None]
    for n in range(FRAMES):
        layer = open_shutter(portrait, portrait_plate_map, n, cv2.BORDER_CONSTANT)
        background = open_shutter(launch_pad, launch_pad_map, n, cv2.BORDER_REFLECT_101)
        foreground = layer[..., :3] / np.maximum(layer[..., 3:], 1e-4)
        spill = (
            0.2
            * (1 - cv2.blur(layer[..., 3], (31, 31)))[..., None]
            * cv2.blur(background, (61, 61))
        )
        gain, grain = expose(n / RATE) * vignette, film_grain(rng)
        foreground = np.clip((foreground + spill) * gain + grain, 0, 1)
        background = np.clip(background * gain + grain, 0, 1)
        alpha = np.rint(layer[..., 3] * 255).astype(np.uint8)
        weight = alpha[..., None] / np.float32(255)
        yield weight * foreground + (1 - weight) * background, alpha


def bt709_planes(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return limited-range 8-bit Y, Cb, Cr of rgb in 0..1, chroma halved at H.264's left siting.

    ITU-R BT.709-6, item 3. Done here, not by swscale, whose default path is off by a code value or
    two.
    """
    luma = rgb @ np.float32([0.2126, 0.7152, 0.0722])
    chroma = np.dstack([(rgb[..., 2] - luma) / 1.8556, (rgb[..., 0] - luma) / 1.5748])
    # Rows 2k and 2k+1 meet halfway, columns centre on 2k.
    kernel = np.float32([[1, 2, 1], [1, 2, 1]]) / 8
    chroma = cv2.filter2D(chroma, -1, kernel, anchor=(1, 0), borderType=cv2.BORDER_REPLICATE)[
        ::2, ::2
    ]
    planes = (16 + 219 * luma, 128 + 224 * chroma[..., 0], 128 + 224 * chroma[..., 1])
    return tuple(np.rint(plane).astype(np.uint8) for plane in planes)


def video_frame(planes: Sequence[np.ndarray], pixel_format: str, n: int) -> av.VideoFrame:
    """A frame that holds the planes as they are, tagged like its stream."""
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)
        rows[: plane.shape[0], : plane.shape[1]] = plane
    frame.pts, frame.time_base = n, Fraction(1, RATE)
    frame.color_range = FULL_RANGE if pixel_format == "gray" else LIMITED_RANGE
    if pixel_format != "gray":
        frame.colorspace = frame.color_primaries = frame.color_trc = BT709
    return frame


def add_video(
    container: av.container.OutputContainer, codec: str, pixel_format: str, **options: str
) -> av.VideoStream:
    """Add a video stream of the sample's size and rate, coded on one thread to be reproducible."""
    stream = container.add_stream(codec, rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
    stream.time_base = Fraction(1, RATE)
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = Fraction(1, RATE)
    context.color_range = FULL_RANGE if pixel_format == "gray" else LIMITED_RANGE
    if pixel_format != "gray":
        context.colorspace = context.color_primaries = context.color_trc = BT709
    return stream


def ambience() -> np.ndarray:
    """Return four synthetic seconds by the sea, (2, samples) float32 at 48 kHz.

    They hold wind, surf and a far generator.
    """
    rng = np.random.default_rng(3)
    count = SAMPLE_RATE * FRAMES // RATE
    t = np.arange(count) / SAMPLE_RATE
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    sound = []
    for side in range(2):
        noise = np.fft.rfft(rng.standard_normal(count))
        wind = np.fft.irfft(noise / (1 + (frequency / 180) ** 2), count)
        surf = np.fft.irfft(noise * np.exp(-((np.log2(frequency + 1) - 9.5) ** 2) / 2), count)
        hum = sum(np.sin(2 * np.pi * 60 * k * t + side * 0.3 * k) / k**2 for k in (1, 2, 3, 5))
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * 0.25 * t - 1 + 0.4 * side)
        sound.append(0.10 * wind / wind.std() + 0.05 * swell * surf / surf.std() + 0.012 * hum)
    fade = np.clip(np.minimum(t, t[::-1]) / 0.05, 0, 1)
    return np.clip(np.array(sound) * fade, -1, 1).astype(np.float32)


def write_sound(
    container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray
) -> None:
    """Code the sound in the encoder's own frame size."""
    for start in range(0, sound.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound[:, start : start + 1024]), "fltp", "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_prompts(path: Path, alpha: np.ndarray) -> None:
    """Return the points an artist would click on frame 0; look up those on the portrait in it."""
    u, v = portrait_map(SHUTTER / 2 / RATE)
    points = []
    for at in OBJECT_POINTS:
        y, x = np.unravel_index(np.argmin((u - at[0]) ** 2 + (v - at[1]) ** 2), alpha.shape)
        points.append([int(x), int(y), 1])
    points += [[x, y, 0] for x, y in BACKGROUND_POINTS]
    entry = {"name": "astronaut", "prompts": [{"frame": 0, "points": points}]}
    path.write_text(json.dumps({"version": 2, "source": "portrait.mp4", "objects": [entry]}) + "\n")


def make_sample(out: Path) -> None:
    """Write portrait.mp4, portrait_alpha.mkv, portrait_mask.png and portrait.prompts.json."""
    with (
        av.open(out / "portrait.mp4", "w") as movie,
        av.open(out / "portrait_alpha.mkv", "w", options={"fflags": "bitexact"}) as matte,
    ):
        color = add_video(movie, "libx264", "yuv420p", crf="19", preset="slower", tune="grain")
        audio = movie.add_stream("aac", rate=SAMPLE_RATE, layout="stereo", options={"b": "96k"})
        exact = add_video(
            matte, "ffv1", "gray", level="3", coder="0", context="0", g="1", slices="4"
        )
        for n, (rgb, alpha) in enumerate(render(make_portrait_plate(), make_launch_pad_plate())):
            movie.mux(color.encode(video_frame(bt709_planes(rgb), "yuv420p", n)))
            matte.mux(exact.encode(video_frame([alpha], "gray", n)))
            if n == 0:
                cv2.imwrite(
                    str(out / "portrait_mask.png"), np.where(alpha > 127, 255, 0).astype(np.uint8)
                )
                write_prompts(out / "portrait.prompts.json", alpha)
        movie.mux(color.encode(None))
        matte.mux(exact.encode(None))
        write_sound(movie, audio, ambience())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder to write into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    make_sample(out)
    for path in sorted(out.glob("portrait*")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
