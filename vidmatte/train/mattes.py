"""Make coarse mattes with known alpha, as `compact` finds them, for what corrects and refines them.

    python -m vidmatte.train.mattes FOLDER --corpus CORPUS --scenes 400 --workers 2

Hair, fur, cut-outs and drawn shapes move at full size over photographs that pan. The packaged model
follows each as in use: from its mask, from a trimap, or from another picture of it. What it sees at
full size, what it finds, what it showed in the frame before and what is true are kept, one file per
frame. With --clips the clips that the network itself learns from are followed, too.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from vidmatte.imaging.arrays import Alpha, Pixels, Rgb8
from vidmatte.model.build import load_model
from vidmatte.model.compact.inference import coarse_matte
from vidmatte.model.compact.predictor import CompactModel
from vidmatte.model.compact.shown import ShownMattes
from vidmatte.model.compact.tracker import match_anywhere
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference
from vidmatte.synth import groom
from vidmatte.synth.bank import Bank
from vidmatte.synth.clips import make_clip
from vidmatte.synth.corpus import Corpus, Rng, recolour
from vidmatte.synth.hair import draw_strands
from vidmatte.synth.render import Layer, camera_effects, draw_parts, shift, turn
from vidmatte.synth.scenes import make_bank_clip
from vidmatte.synth.sprites import make_sprite, noise, premultiply
from vidmatte.threads import SINGLE, decide
from vidmatte.train.matte_files import Matte, write_matte

_SIDES = (448, 640, 896)
"""Of scenes, in pixels: at about the same size for the network, they are one to four times that."""
_FRAMES = 4
_CLIP_SIZE = (320, 512)
"""Height and width of the frames of clips for the network, in pixels."""
_MARGIN = 24
"""Pixels by which a background is larger than its frame on each side, to pan over it."""

Given = Literal["mask", "trimap", "other"]


def make_mattes(model: CompactModel, corpus: Corpus, rng: Rng) -> Iterator[Matte]:
    """Make a moving scene, and yield mattes of its frames; only one if it is not followed."""
    side = int(rng.choice(_SIDES, p=[0.35, 0.4, 0.25]))
    frames, truths = make_scene(corpus, side, rng)
    given: Given = rng.choice(["mask", "trimap", "other"], p=[0.7, 0.12, 0.18])
    if given == "other":
        yield from _matched(model, frames, truths)
    else:
        yield from _followed(model, frames, truths, given, rng)


def make_clip_mattes(
    model: CompactModel, corpus: Corpus, bank: Bank | None, rng: Rng
) -> Iterator[Matte]:
    """Make a clip that the network could learn from, and yield mattes of its frames.

    Its objects are photographed ones with hard edges, which drawn hair alone would let forget.
    Nothing is yielded where a window of the clip is smaller than its matte.
    """
    seed = int(rng.integers(1 << 31))
    if bank is not None and rng.random() < 0.6:
        clip = make_bank_clip(bank, corpus, _CLIP_SIZE, _FRAMES, "mask", seed)
    else:
        clip = make_clip(corpus, _CLIP_SIZE, _FRAMES, "mask", seed)
    frames = [np.ascontiguousarray(rgb.transpose(1, 2, 0)) for rgb in clip.rgb]
    truths = [alpha[0].astype(np.float32) / np.float32(255) for alpha in clip.alpha]
    if (truths[0] > 0.5).any():
        for matte in _followed(model, frames, truths, "mask", rng):
            if matte.coarse.shape[0] <= matte.truth.shape[0]:
                yield matte


def _followed(
    model: CompactModel, frames: Sequence[Rgb8], truths: Sequence[Alpha], given: Given, rng: Rng
) -> Iterator[Matte]:
    """Yield the first frame of a scene; of one with a mask also the others."""
    known = np.ones_like(truths[0])
    alpha = truths[0]
    if given == "trimap":
        known = _known_of_trimap(alpha, rng)
    elif rng.random() < 0.85:
        # A mask that a person gives is hard, and not always exact.
        alpha = (alpha > rng.uniform(0.25, 0.75)).astype(np.float32)
    reference = Reference(_planes(frames[0]), _plane(alpha), _plane(known), 0)
    predictor = model.with_reference([reference])
    tracker = predictor.tracker()
    start = _window(frames[0], truths[0], tracker.start(reference))
    yield replace(start, is_given=True)
    if given == "trimap":
        return
    shown = ShownMattes(model, predictor.references[0].marked.alpha)
    for frame, truth in zip(frames[1:], truths[1:], strict=True):
        searched = tracker.search(predictor.shrink(_planes(frame)))
        matte = _window(frame, truth, searched.matte(searched.alpha))
        yield replace(matte, expected=searched.expected(shown.last()))
        shown.add(searched)


def _matched(
    model: CompactModel, frames: Sequence[Rgb8], truths: Sequence[Alpha]
) -> Iterator[Matte]:
    """Find the object of the last frame by a mirrored picture of the first one."""
    small = (round(0.8 * frames[0].shape[1]), round(0.8 * frames[0].shape[0]))
    picture, alpha = (
        np.ascontiguousarray(cv2.resize(each, small, interpolation=cv2.INTER_AREA)[:, ::-1])
        for each in (frames[0], truths[0])
    )
    mask = (alpha > 0.5).astype(np.float32)
    reference = Reference(
        _planes(np.asarray(picture, np.uint8)), _plane(mask), _plane(np.ones_like(mask))
    )
    predictor = model.with_reference([reference])
    memories = [each.memory for each in predictor.references]
    frame = predictor.shrink(_planes(frames[-1])).numpy()
    window, answer = match_anywhere(model, frame, memories)
    found = coarse_matte(answer.alpha, answer.confidence, window, *frame.shape[:2])
    yield _window(frames[-1], truths[-1], found)


def _known_of_trimap(alpha: Alpha, rng: Rng) -> Alpha:
    """Return (h, w) 1 where alpha is 0 or 1 and not close to what is neither."""
    side = len(alpha)
    reach = 2 * int(side * rng.uniform(0.005, 0.05)) + 1
    soft = ((alpha > 0.01) & (alpha < 0.99)).astype(np.uint8)
    wide = cv2.dilate(soft, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return np.asarray(wide == 0, np.float32)


def _window(frame: Rgb8, truth: Alpha, coarse: CoarseMatte) -> Matte:
    inside = coarse.inside(*truth.shape)
    codes = np.rint(255 * truth[inside]).astype(np.uint8)
    return Matte(frame[inside], codes, coarse.alpha.numpy())


def _planes(rgb: Rgb8) -> Tensor:
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32) / np.float32(255)
    return torch.from_numpy(planes)[None]


def _plane(values: Alpha) -> Tensor:
    return torch.from_numpy(values)[None, None]


def make_scene(corpus: Corpus, side: int, rng: Rng) -> tuple[list[Rgb8], list[Alpha]]:
    """Return frames (side, side, 3) of a thing that moves over a photograph, and exact alphas."""
    pictures = _foreground(corpus, side, rng)
    # Each frame gets the same blur.
    seed = int(rng.integers(1 << 31))
    pictures = [blur(picture, np.random.default_rng(seed)) for picture in pictures]
    background = _background(corpus, side + 2 * _MARGIN, pictures[0], rng)
    pan = rng.normal(0, 3, 2) * (rng.random() < 0.7)
    seen = []
    for t, picture in enumerate(pictures):
        x, y = np.clip(_MARGIN + t * pan, 0, 2 * _MARGIN)
        place = np.array([[1, 0, -x], [0, 1, -y]])
        behind = cv2.warpAffine(background, place, (side, side), flags=cv2.INTER_LINEAR)
        seen.append(picture[..., :3] + (1 - picture[..., 3:]) * behind)
    frames = camera_effects(np.stack(seen), rng)
    return list(frames), [np.ascontiguousarray(picture[..., 3]) for picture in pictures]


def _foreground(corpus: Corpus, side: int, rng: Rng) -> list[Pixels]:
    """Return premultiplied frames (side, side, 4) of a thing that moves."""
    kind = rng.random()
    if kind < 0.36:
        figure = "head" if rng.random() < 0.75 else "animal"
        return groom.make_clip(figure, side, _FRAMES, rng)
    if kind < 0.66:
        drawn = draw_strands(corpus, side, rng)
    elif kind < 0.86:
        drawn = _placed_cutout(corpus, side, rng)
    else:
        scale = side * rng.uniform(0.6, 1.3)
        place = shift(side / 2, side / 2) @ np.diag([scale, scale, 1])
        layer = Layer(make_sprite(corpus, side, rng), np.zeros((1, 6)))
        drawn = np.clip(draw_parts(layer, 0, place, (side, side)), 0, 1)
    # Steps of about a hundredth of the frame, and a slow turn and zoom.
    step, spin, zoom = rng.normal(0, 0.01 * side, 2), rng.normal(0, 0.03), rng.normal(0, 0.015)
    first = rng.normal(0, 0.06 * side, 2)
    frames = []
    for t in range(_FRAMES):
        grown = float(np.exp(t * zoom))
        middle = shift(*(side / 2 + first + t * step)) @ turn(float(t * spin))
        place = middle @ np.diag([grown, grown, 1]) @ shift(-side / 2, -side / 2)
        moved = cv2.warpAffine(drawn, place[:2], (side, side), flags=cv2.INTER_LINEAR)
        frames.append(np.clip(moved, 0, 1).astype(np.float32))
    return frames


def _placed_cutout(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    cut = corpus.cutout(rng)
    colour = recolour(cut[..., :3], rng) if rng.random() < 0.3 else cut[..., :3]
    picture = premultiply(colour, cut[..., 3])[:, :: -1 if rng.random() < 0.5 else 1]
    tall, wide = picture.shape[:2]
    scale = side / max(tall, wide) * rng.uniform(0.6, 1.3)
    middle = shift(*(side * rng.uniform(0.35, 0.65, 2))) @ turn(float(rng.normal(0, 0.3)))
    place = middle @ np.diag([scale, scale, 1]) @ shift(-wide / 2, -tall / 2)
    how = cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR
    moved = cv2.warpAffine(np.ascontiguousarray(picture), place[:2], (side, side), flags=how)
    return np.clip(moved, 0, 1).astype(np.float32)


def _background(corpus: Corpus, side: int, picture: Pixels, rng: Rng) -> Pixels:
    """Draw what lies behind (side, side, 3), sometimes one of the hard cases."""
    behind = corpus.texture(side, rng, least=0.5)
    if rng.random() < 0.4:
        strength = float(np.exp(rng.uniform(-0.5, 1.6)))
        behind = np.asarray(cv2.GaussianBlur(behind, (0, 0), strength), np.float32)
    kind = rng.random()
    if kind < 0.12:
        return _with_lamps(behind, rng)
    if kind < 0.22:
        # The colour of the thing itself, with the light and shade of the photograph.
        weight = picture[..., 3].sum()
        own = picture[..., :3].sum((0, 1)) / max(float(weight), 1.0)
        share = rng.uniform(0.4, 0.85)
        grey = behind.mean(2, keepdims=True) - behind.mean()
        tinted = (1 - share) * behind + share * (own + grey)
        return np.asarray(np.clip(tinted, 0, 1), np.float32)
    if kind < 0.3:
        # A bright sky.
        fall = np.linspace(1, rng.uniform(0.7, 1), side, dtype=np.float32)[:, None, None]
        sky = fall * np.array([rng.uniform(0.6, 1), rng.uniform(0.8, 1), 1], np.float32)
        share = rng.uniform(0.6, 1)
        return ((1 - share) * behind + share * sky).astype(np.float32)
    return behind


def _with_lamps(behind: Pixels, rng: Rng) -> Pixels:
    """Draw strip lights over a background, with their glow."""
    side = len(behind)
    lamps = np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(1, 7))):
        start = rng.uniform(0, side, 2)
        end = start + side * rng.normal(0, 0.6, 2)
        ends = [tuple(np.rint(point).astype(int).tolist()) for point in (start, end)]
        cv2.line(lamps, ends[0], ends[1], 1.0, int(rng.integers(2, side // 20)), cv2.LINE_AA)
    glow = cv2.GaussianBlur(lamps, (0, 0), side * rng.uniform(0.01, 0.05))
    light = np.clip(lamps + rng.uniform(0.2, 1.2) * glow, 0, 1)[..., None]
    colour = 1 - 0.3 * rng.random(3, np.float32)
    darker = behind * np.float32(rng.uniform(0.3, 1))
    return np.asarray(darker + (1 - darker) * light * colour, np.float32)


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
        side = picture.shape[0]
        veil = 0.6 + 0.4 * noise(side, int(rng.integers(2, 9)), rng)
        picture = picture * np.clip(veil, 0.1, 1)[..., None]
    return np.clip(picture, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class _Sources:
    """Where mattes come from and go to."""

    folder: Path
    corpus: Path
    masks: Path | None
    bank: Path | None


def _make_some(sources: _Sources, scenes: range, clips: range) -> None:
    """Make the mattes of some scenes and clips, by their numbers."""
    decide(SINGLE)
    model = load_model("compact", device="cpu")
    assert isinstance(model, CompactModel)  # the packaged one
    if scenes:
        corpus = Corpus(sources.corpus, "train", photo_side=800, cut_side=900)
        for number in scenes:
            rng = np.random.default_rng((number, 29))
            _keep(sources.folder / f"{number:05d}", make_mattes(model, corpus, rng))
    if clips:
        corpus = Corpus(sources.corpus, "train", masks=sources.masks)
        bank = None if sources.bank is None else Bank(sources.bank, "train")
        for number in clips:
            rng = np.random.default_rng((number, 31))
            name = sources.folder / f"clip-{number:05d}"
            _keep(name, make_clip_mattes(model, corpus, bank, rng))


def _keep(name: Path, mattes: Iterator[Matte]) -> None:
    """Write the mattes of a scene, which are made only if they are not there."""
    done = name.with_name(f".{name.name}.done")
    if done.exists():
        return
    for index, matte in enumerate(mattes):
        write_matte(name.with_name(f"{name.name}-{index}.npz"), matte)
    done.touch()


def mattes_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m vidmatte.train.mattes",
        description="Make coarse mattes with known alpha for the corrector and the refiner.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument("--scenes", type=int, default=400, metavar="N", help="drawn at full size")
    parser.add_argument(
        "--clips", type=int, default=0, metavar="N", help="as the network learns from them"
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help="of the subjects in the clips")
    parser.add_argument("--bank", type=Path, metavar="DIR", help="of foregrounds for the clips")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the mattes that the command line asks for; those that are there stay."""
    asked = mattes_parser().parse_args(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    sources = _Sources(asked.folder, asked.corpus, asked.masks, asked.bank)
    parts = range(asked.workers)
    scenes = [range(first, asked.scenes, asked.workers) for first in parts]
    clips = [range(first, asked.clips, asked.workers) for first in parts]
    context = get_context("spawn")
    with ProcessPoolExecutor(asked.workers, context) as pool:
        list(pool.map(_make_some, itertools.repeat(sources), scenes, clips))


if __name__ == "__main__":
    main()
