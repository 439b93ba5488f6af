"""Training of the refiner: full-size scenes with exact alpha, and coarse mattes of the network."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidmatte.imaging.arrays import Pixels
from vidmatte.model.compact.motion import no_motion
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.refine import (
    CORE,
    HALO,
    TILE,
    Refiner,
    Tiles,
    coarse_features,
    refined,
    tiles_on,
)
from vidmatte.model.compact.upsample import CERTAIN, band_share, certain, guided_upsample
from vidmatte.model.losses import Batch, gradient, l1, laplacian, weighted_sum
from vidmatte.model.weights import load_packaged, load_strictly
from vidmatte.synth.corpus import Corpus, Rng, recolour
from vidmatte.synth.hair import draw_strands
from vidmatte.synth.render import Layer, camera_effects, draw_parts, shift, turn
from vidmatte.synth.sprites import make_sprite, noise, premultiply
from vidmatte.threads import one_in_opencv
from vidmatte.train.loop import TrainingTask
from vidmatte.train.network import TrainConfig

SIDE = 448
"""Of a scene, in pixels of full size."""
_COARSEST, _FINEST = 56, 224
_FOLLOWABLE = 112
"""Side from which a scene is large enough for the matting network itself to matte it."""
_TILES_PER_SCENE = 24


class TileBatches(Dataset[Batch]):
    """Batch k of a run of the refiner, made from nothing but the configuration and k.

    A batch has scenes of one ratio of full to coarse size, with tiles of the soft band of each.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._corpus: Corpus | None = None
        self._net: CompactNet | None = None

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        if self._corpus is None:
            one_in_opencv()
            self._corpus = Corpus(self.config.corpus, "train", photo_side=640, cut_side=640)
            self._net = CompactNet().eval()
            load_strictly(self._net, load_packaged("compact"), "model 'compact'")
        assert self._net is not None  # made with the corpus
        rng = np.random.default_rng((self.config.seed, index))
        side = 16 * round(float(np.exp(rng.uniform(np.log(_COARSEST), np.log(_FINEST)))) / 16)
        scenes = max(1, round(self.config.pixels / (_TILES_PER_SCENE * TILE**2)))
        samples = [make_sample(self._corpus, self._net, side, rng) for _ in range(scenes)]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def make_sample(corpus: Corpus, net: CompactNet, side: int, rng: Rng) -> Batch:
    """Make the sample of a scene.

    It holds coarse features (C, side, side), and corners, pixels, truth and weight of some tiles.
    """
    rgb, truth = make_scene(corpus, rng)
    small = np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    # A mask that a person gives is hard at full size, and holds on its own frame.
    given = (truth > 0.5).astype(np.float32) if rng.random() < 0.3 else truth
    shrunk = np.asarray(cv2.resize(given, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    matte = shrunk if rng.random() < 0.15 else spoil(shrunk, rng)
    if side >= _FOLLOWABLE and rng.random() < 0.4:
        matte = as_found(net, small, matte if rng.random() < 0.5 else shrunk)
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    guided = guided_upsample(planes, matte)
    matte = certain(matte)
    share = band_share(matte)
    tiles = _some(tiles_on(share, SIDE, SIDE), rng)
    enlarged = cv2.resize(share, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    coarse, lines = (torch.from_numpy(maps) for maps in coarse_features(small, matte))
    fine = torch.from_numpy(tiles.cut(planes, guided[None]))
    answer = torch.from_numpy(tiles.cut(np.stack([truth, enlarged]), side=CORE, halo=0))
    found = {"coarse": coarse, "lines": lines, "corners": tiles.corners, "fine": fine}
    return found | {"truth": answer[:, :1], "share": answer[:, 1:]}


def _some(tiles: Tiles, rng: Rng) -> Tiles:
    """Draw as many tiles as a scene gives from those on the band, and shift them at random."""
    if not len(tiles.corners):
        tiles = Tiles(torch.zeros(1, 2, dtype=torch.int64), tiles.height, tiles.width)
    drawn = tiles.corners[torch.from_numpy(rng.integers(len(tiles.corners), size=_TILES_PER_SCENE))]
    moved = drawn + torch.from_numpy(2 * rng.integers(-16, 17, size=(_TILES_PER_SCENE, 2)))
    return Tiles(moved.clamp(0, tiles.height - CORE), tiles.height, tiles.width)


def loss(
    net: Refiner, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch's tiles, and figures, also of the initial guided filter."""
    with torch.autocast(batch["fine"].device.type, precision, enabled=precision != torch.float32):
        alpha = predict(net, batch)
    truth = batch["truth"].flatten(0, 1)
    share = batch["share"].flatten(0, 1)
    alpha = truth + share * (alpha - truth)
    terms = {
        "l1": l1(alpha, truth),
        "laplacian": laplacian(alpha, truth),
        "gradient": gradient(alpha, truth),
    }
    means = {name: term.mean() for name, term in terms.items()}
    guided = batch["fine"].flatten(0, 1)[:, 3:4, HALO:-HALO, HALO:-HALO]
    told = {"guided": (share * (guided - truth)).abs().mean().item()}
    return weighted_sum(means), {**{name: term.item() for name, term in means.items()}, **told}


def predict(net: Refiner, batch: Batch) -> Tensor:
    """Alpha of the cores of all tiles of a batch, (N, 1, CORE, CORE)."""
    context = net.context(batch["coarse"].contiguous(memory_format=torch.channels_last)).float()
    maps = torch.cat([batch["lines"], context], 1)
    around = torch.cat(
        [Tiles(c, SIDE, SIDE).sample(maps[i : i + 1]) for i, c in enumerate(batch["corners"])]
    )
    fine = batch["fine"].flatten(0, 1)
    change = net(F.pixel_unshuffle(fine, 2).contiguous(memory_format=torch.channels_last), around)
    found = refined(fine[:, 3:], change)[..., HALO:-HALO, HALO:-HALO]
    # Not clipped as in use, so that what lies beyond still learns.
    return (found - CERTAIN) / (1 - 2 * CERTAIN)


def make_scene(corpus: Corpus, rng: Rng) -> tuple[Pixels, Pixels]:
    """Return a thing over a photograph.

    Colour is (SIDE, SIDE, 3), 0-1, as a camera gives it; exact alpha is (SIDE, SIDE).
    """
    picture = blur(_foreground(corpus, rng), rng)
    behind = corpus.texture(SIDE, rng, least=0.5)
    if rng.random() < 0.4:
        behind = np.asarray(
            cv2.GaussianBlur(behind, (0, 0), float(np.exp(rng.uniform(-0.5, 1.6)))), np.float32
        )
    seen = picture[..., :3] + (1 - picture[..., 3:]) * behind
    return camera_effects(seen[None], rng)[0].astype(np.float32) / np.float32(255), picture[..., 3]


def _foreground(corpus: Corpus, rng: Rng) -> Pixels:
    kind = rng.random()
    if kind < 0.5:
        return draw_strands(corpus, SIDE, rng)
    spin = turn(float(rng.normal(0, 0.4)))
    if kind < 0.78:
        cut = corpus.cutout(rng)
        colour = recolour(cut[..., :3], rng) if rng.random() < 0.3 else cut[..., :3]
        picture = premultiply(colour, cut[..., 3])[:, :: -1 if rng.random() < 0.5 else 1]
        tall, wide = picture.shape[:2]
        scale = (
            SIDE / max(tall, wide) * rng.uniform(0.6, 1.0)
            if rng.random() < 0.4
            else rng.uniform(0.6, 1.1)
        )
        middle = shift(*(SIDE * rng.uniform(0.3, 0.7, 2)))
        place = middle @ spin @ np.diag([scale, scale, 1]) @ shift(-wide / 2, -tall / 2)
        how = cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR
        moved = cv2.warpAffine(np.ascontiguousarray(picture), place[:2], (SIDE, SIDE), flags=how)
        return np.clip(moved, 0, 1).astype(np.float32)
    scale = SIDE * rng.uniform(0.7, 1.6)
    place = shift(*(SIDE * rng.uniform(0.35, 0.65, 2))) @ spin @ np.diag([scale, scale, 1])
    drawn = draw_parts(
        Layer(make_sprite(corpus, SIDE, rng), np.zeros((1, 6))), 0, place, (SIDE, SIDE)
    )
    return np.clip(drawn, 0, 1).astype(np.float32)


def blur(picture: Pixels, rng: Rng) -> Pixels:
    """A premultiplied picture out of focus, moving, or letting light through, each sometimes."""
    if rng.random() < 0.3:
        picture = np.asarray(
            cv2.GaussianBlur(picture, (0, 0), float(np.exp(rng.uniform(-0.7, 1.1)))), np.float32
        )
    if rng.random() < 0.12:
        length = int(rng.integers(3, 20))
        angle = rng.uniform(0, np.pi)
        kernel = np.zeros((length, length), np.float32)
        reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        ends = [
            tuple(np.rint((length - 1) / 2 + sign * reach).astype(int).tolist()) for sign in (-1, 1)
        ]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
        picture = np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)
    if rng.random() < 0.08:
        picture = (
            picture
            * np.clip(0.6 + 0.4 * noise(picture.shape[0], int(rng.integers(2, 9)), rng), 0.1, 1)[
                ..., None
            ]
        )
    return np.clip(picture, 0, 1).astype(np.float32)


def spoil(alpha: Pixels, rng: Rng) -> Pixels:
    """Return a coarse alpha (h, w) as a network might give it.

    It is softer, harder, shifted, wavering, or lacks thin parts.
    """
    side = alpha.shape[0]
    found = alpha
    kind = rng.random()
    if kind < 0.4:
        found = (found > rng.uniform(0.3, 0.7)).astype(np.float32)
    if kind > 0.3 and rng.random() < 0.4:
        window = np.asarray(
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (int(rng.choice([3, 5])),) * 2)
        )
        how = int(rng.choice([cv2.MORPH_OPEN, cv2.MORPH_CLOSE, cv2.MORPH_ERODE, cv2.MORPH_DILATE]))
        found = np.asarray(cv2.morphologyEx(found, how, window), np.float32)
    if rng.random() < 0.7:
        found = np.asarray(
            cv2.GaussianBlur(found, (0, 0), float(rng.uniform(0.4, 1.6))), np.float32
        )
    if rng.random() < 0.4:
        wavering = rng.uniform(0.05, 0.35) * noise(
            side, int(rng.integers(side // 16 + 2, side // 3)), rng
        )
        found = found + wavering * 4 * found * (1 - found)
    if rng.random() < 0.3:
        drift = np.array([[1, 0, rng.uniform(-1, 1)], [0, 1, rng.uniform(-1, 1)]])
        found = np.asarray(
            cv2.warpAffine(found, drift, (side, side), borderMode=cv2.BORDER_REPLICATE), np.float32
        )
    if rng.random() < 0.4:
        found = (found - 0.5) * rng.uniform(1.0, 2.5) + 0.5
    return np.clip(found, 0, 1).astype(np.float32)


def as_found(net: CompactNet, rgb: Pixels, expected: Pixels) -> NDArray[np.float32]:
    """Return the network's alpha (h, w) of a small image (h, w, 3) if it expects a given alpha."""
    image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]
    prior = torch.from_numpy(expected)[None, None]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        features = net.encode(image)
        memory = net.encode_memory(features, (prior > 0.5).float(), torch.ones_like(prior))
        prediction = net.decode(
            image, features, [memory], prior, torch.ones_like(prior), no_motion(image)
        )
    return np.asarray(prediction.alpha[0, 0].float().numpy(), np.float32)


REFINER = TrainingTask("refiner", Refiner, TileBatches, loss)
