"""Make pairs of different photographs of one subject: what matching across images learns from.

The subject's masks are those of GrabCut, so the truth is only about right at its edge.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Corpus, Rng, recolour
from vidmatte.synth.prompts import PromptKind, make_prompt
from vidmatte.synth.render import Clip, camera_effects, shift, turn

_LEAST_VISIBLE = 0.02
"""Share of the frame that a subject has to cover; less is hardly a subject."""
_TRIES = 20


def make_pair(corpus: Corpus, size: tuple[int, int], prompt: PromptKind, seed: int) -> Clip | None:
    """Make a clip of two photographs of one subject: the marked one, and one to find it in.

    Nothing is known about motion between them: the flow is 0, and known nowhere.

    Args:
        corpus: photographs with their subjects.
        size: height and width in pixels.
        prompt: kind of the marks on the first photograph.
        seed: of all random choices.

    Returns:
        A clip of two frames; None if the corpus has no subject with two usable photographs.
    """
    rng = np.random.default_rng(seed)
    scenes = corpus.pair(rng)
    if scenes is None:
        return None
    views = [_photograph(scene, size, rng) for scene in scenes]
    rgb = np.stack([seen for seen, _ in views])
    alpha = np.stack([matte for _, matte in views])
    labels, known = make_prompt(alpha[0], prompt, rng)
    height, width = size
    still = np.eye(3, dtype=np.float32)[:2]
    return Clip(
        rgb=rgb.transpose(0, 3, 1, 2).copy(),
        alpha=alpha[:, None],
        flow=np.zeros((2, height, width, 2), np.float32),
        flow_known=np.zeros((2, height, width), np.uint8),
        between=np.stack([still, still]),
        labels=labels[None],
        known=known[None],
    )


def _photograph(
    scene: Pixels, size: tuple[int, int], rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a view of a scene (S, S, 4), (h, w, 3), in its own light, and its alpha (h, w)."""
    for _ in range(_TRIES):
        view = _view(scene, size, rng)
        if (view[..., 3] > 0.5).mean() > _LEAST_VISIBLE:
            break
    colour = view[..., :3]
    if rng.random() < 0.5:
        colour = recolour(colour, rng)
    seen = camera_effects(colour[None], rng)[0]
    return seen, np.rint(np.clip(view[..., 3], 0, 1) * 255).astype(np.uint8)


def _view(scene: Pixels, size: tuple[int, int], rng: Rng) -> Pixels:
    """Return a random crop (h, w, 4) of a scene (S, S, 4) around its subject, turned a little."""
    height, width = size
    side = len(scene)
    rows, columns = np.nonzero(scene[..., 3] > 0.5)
    extent = max(float(np.ptp(columns)), float(np.ptp(rows)), 1.0)
    share = float(np.exp(rng.uniform(np.log(0.3), np.log(0.9))))
    angle = float(rng.normal(0, 0.1))
    # The view stays inside of the photograph: mirrored at its border, it would show the subject
    # several times.
    reach_x = (width * np.cos(angle) + height * abs(np.sin(angle))) / 2
    reach_y = (height * np.cos(angle) + width * abs(np.sin(angle))) / 2
    least = 2 * max(reach_x, reach_y) / side
    scale = max(share * min(size) / extent, least)
    middle_x = (columns.min() + columns.max()) / 2 + extent * rng.uniform(-0.3, 0.3)
    middle_y = (rows.min() + rows.max()) / 2 + extent * rng.uniform(-0.3, 0.3)
    middle_x = np.clip(middle_x, reach_x / scale, side - reach_x / scale)
    middle_y = np.clip(middle_y, reach_y / scale, side - reach_y / scale)
    zoom = scale
    if scale < 0.6:
        # Bilinear sampling would alias: the photograph is averaged down first.
        scene = np.asarray(
            cv2.resize(scene, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32
        )
        middle_x, middle_y, zoom = middle_x * scale, middle_y * scale, 1.0
    place = shift(width / 2, height / 2) @ turn(angle) @ np.diag([zoom, zoom, 1])
    place = place @ shift(-middle_x, -middle_y)
    view = cv2.warpAffine(scene, place[:2], (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(view, np.float32)
