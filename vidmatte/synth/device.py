"""Clips made on the training device, many at once.

`synth.clips` draws each clip by itself on the processor: about ten a second, far fewer than an
accelerator can learn from. Here the pictures that clips are composed of lie on the device, in an
`Atlas`, and a whole batch is composed there by a few operations. Its clips have sprites that move
and bend over moving photographs, lookalikes, occluders, shadows, motion blur and noise.

Optical flow is that of the scene itself, made as smooth and as wrong as an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.synth.bank import Bank, to_codes
from vidmatte.synth.corpus import Corpus
from vidmatte.synth.prompts import INSIDE, OUTSIDE, PromptKind, prompt_radius
from vidmatte.synth.render import Layer, draw_parts
from vidmatte.synth.sprites import make_sprite
from vidmatte.threads import one_in_opencv

PICTURE = 160
"""Side of the sprites' pictures."""
PHOTO = 384
"""Side of the photographs behind them."""
_PICTURES = 6
"""Pictures of a sprite that moves by itself."""
_OTHERS = 3
"""Sprites beside the marked one."""
_SPRITE_SHARE = 0.8
"""Share of its picture that a sprite takes."""
_GROUND = 2.2
"""Side of the background in shares of the frame's shorter side."""
_OUT_OF_SIGHT = 6.0
"""Distance at which a sprite is in no crop, in the same shares."""
_BLUR_SAMPLES = 3
"""Moments of an exposure that are averaged if a batch has motion blur."""


Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Atlas:
    """Pictures on a device.

    Attributes:
        photos: (P, 3, S, S) uint8 backgrounds.
        pictures: (K, 4, s, s) uint8 sprites, premultiplied; those of one sprite in a row.
        first: (I,) index of each sprite's first picture.
        count: (I,) number of its pictures.
    """

    photos: Tensor
    pictures: Tensor
    first: Tensor
    count: Tensor

    def to(self, device: torch.device | str) -> Atlas:
        """Return the same atlas on a device."""
        return Atlas(
            self.photos.to(device),
            self.pictures.to(device),
            self.first.to(device),
            self.count.to(device),
        )


def make_atlas(
    corpus: str, bank: str | None, sprites: int, *, seed: int = 0, workers: int = 0
) -> Atlas:
    """Make an atlas of a corpus's photographs, and of sprites drawn from it, on the processor.

    Args:
        corpus: folder of photographs.
        bank: folder of a bank, whose foregrounds are added; None for none.
        sprites: number of drawn sprites.
        seed: of all draws. A sprite depends on it and on its own number alone.
        workers: processes that draw; 0 to draw in this one.
    """
    draw = partial(_draw_sprites, corpus, seed)
    if workers:
        # A forked process would inherit the locks of libraries that have threads.
        each = -(-sprites // workers)
        numbers = [range(first, min(first + each, sprites)) for first in range(0, sprites, each)]
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            drawn = [sprite for part in pool.map(draw, numbers) for sprite in part]
    else:
        drawn = draw(range(sprites))
    if bank is not None:
        drawn += _bank_sprites(Bank(bank, "train"))
    photos = [_square(photo) for photo in Corpus(corpus, "train").photos]
    counts = torch.tensor([len(each) for each in drawn])
    return Atlas(
        torch.from_numpy(np.stack(photos)),
        torch.from_numpy(np.concatenate(drawn)),
        counts.cumsum(0) - counts,
        counts,
    )


def _draw_sprites(corpus: str, seed: int, numbers: Sequence[int]) -> list[Pictures]:
    """Return the sprites of some numbers, each (n, 4, s, s), n over 1 if it moves by itself."""
    one_in_opencv()
    photographs = Corpus(corpus, "train")
    to_pixels = np.array([[PICTURE, 0, PICTURE / 2], [0, PICTURE, PICTURE / 2], [0, 0, 1.0]])
    found = []
    for number in numbers:
        sprite = make_sprite(photographs, PICTURE, np.random.default_rng((seed, number)))
        moves = len(sprite) > 1 or sprite[0].texture is not None
        layer = Layer(sprite, np.zeros((1, 6)))
        times = range(_PICTURES if moves else 1)
        drawn = [draw_parts(layer, t, to_pixels, (PICTURE, PICTURE)) for t in times]
        found.append(_codes(np.stack(drawn)))
    return found


def _bank_sprites(bank: Bank) -> list[Pictures]:
    """Return the foregrounds of a bank, each (n, 4, s, s): every second frame."""
    found = []
    for entry in [*bank.footage, *bank.rendered]:
        times = range(0, entry.frames, 2)
        found.append(_codes(np.stack(bank.pictures(entry, times, PICTURE))))
    return found


def _codes(pictures: NDArray[np.float32]) -> Pictures:
    """Return pictures (n, s, s, 4) 0-1 as (n, 4, s, s)."""
    return np.ascontiguousarray(to_codes(pictures).transpose(0, 3, 1, 2))


def _square(photo: NDArray[np.uint8]) -> Pictures:
    """Return the middle of a photograph as (3, S, S)."""
    side = min(photo.shape[:2])
    top = (photo.shape[0] - side) // 2
    left = (photo.shape[1] - side) // 2
    middle = cv2.resize(
        photo[top : top + side, left : left + side], (PHOTO, PHOTO), interpolation=cv2.INTER_AREA
    )
    return np.ascontiguousarray(np.asarray(middle, np.uint8).transpose(2, 0, 1))


@torch.no_grad()
def make_batch(
    atlas: Atlas,
    size: tuple[int, int],
    frames: int,
    clips: int,
    prompt: PromptKind,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Make a batch of clips on the atlas's device.

    Args:
        atlas: the pictures.
        size: height and width of the frames.
        frames: T, frames of a clip, at least 2.
        clips: B.
        prompt: kind of the marks on each first frame.
        generator: of all draws, on the atlas's device.

    Returns:
        The fields of `model.compact.objective.collate`, on the device.
    """
    return _Batch(atlas, size, frames, clips, generator).make(prompt)


@dataclass(frozen=True)
class _Sprites:
    """One layer of every clip.

    Attributes:
        index: (B, T) its pictures in the atlas.
        poses: (B, T, 6) as in `render.Layer`.
        bend: (B, T, 2, 4, 4) displacement of the picture's points, in its sides.
        gain: (B, 3) factor on its colour, by which lookalikes differ.
    """

    index: Tensor
    poses: Tensor
    bend: Tensor
    gain: Tensor


@dataclass(frozen=True)
class _Batch:
    """The making of one batch; its methods draw in a fixed order."""

    atlas: Atlas
    size: tuple[int, int]
    frames: int
    clips: int
    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.atlas.photos.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """Return 1 with a chance, else 0, as float32."""
        return (self.uniform(*shape) < share).float()

    def integers(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=self.generator, device=self.device)

    def make(self, prompt: PromptKind) -> dict[str, Tensor]:
        """Compose the clips, mark them, and look at them through a camera."""
        far = 0.5 if prompt == "mask" else 0.15
        speed = 1.0 if prompt == "mask" else 0.3
        extent = torch.exp(self.uniform(self.clips, low=np.log(0.25), high=np.log(0.95)))
        target = self._sprites(extent, speed, far, spread=0.3)
        others = [self._other(target, extent, speed, far) for _ in range(_OTHERS)]
        target = self._hide(target)
        ground = self._path(0.5 * torch.ones_like(extent), 0.6 * speed, far)
        crops = self._crops(target.poses)
        # The sprites after the marked one are in front of it; where it is differs by batch.
        behind = int(self.integers(_OTHERS + 1, 1))
        layers = [*others[:behind], target, *others[behind:]]
        photo = self.integers(len(self.atlas.photos), self.clips)
        shutter = float(self.uniform(1, low=0.4, high=1.0)) if self.chance(0.25, 1) else 0.0
        rgb, shares = self._render(layers, behind, photo, ground, crops, shutter)
        alpha = (shares[:, :, behind + 1 : behind + 2] * 255).round().to(torch.uint8)
        flow, known = self._flow(layers, ground, crops, shares)
        labels, marked = self._mark(alpha[:, 0], prompt)
        between = crops[:, self._others()] @ torch.linalg.inv(crops)
        return {
            "rgb": self._expose(rgb),
            "alpha": alpha,
            "flow": flow,
            "flow_known": known,
            "between": between[:, :, :2].contiguous(),
            "labels": labels,
            "known": marked,
        }

    def _path(self, scale: Tensor, speed: float, far: float) -> Tensor:
        """Draw motions (B, T, 6) relative to frame 0, as `synth.clips.make_path` does."""
        paces = torch.tensor([0.01, 0.05, 0.15], device=self.device)
        chosen = torch.multinomial(
            torch.tensor([0.25, 0.45, 0.3], device=self.device),
            self.clips,
            replacement=True,
            generator=self.generator,
        )
        one = torch.ones_like(scale)
        kinds = torch.stack([scale, scale, one, 0.7 * one, 0.4 * one, 0.4 * one], -1)
        pace = speed * paces[chosen][:, None] * kinds
        velocity = self.normal(self.clips, 6) * pace
        reach = 1 + self.chance(far, self.clips) * self.uniform(self.clips, high=4)
        place = torch.zeros_like(velocity)
        places = [place]
        for t in range(1, self.frames):
            velocity = velocity + 0.4 * self.normal(self.clips, 6) * pace
            place = place + velocity * (reach[:, None] if t == 1 else 1.0)
            places.append(place)
        path = torch.stack(places, 1)
        path[..., 3] = path[..., 3].clamp(-1.2, 1.2)
        path[..., 4:] = path[..., 4:].clamp(-0.5, 0.5)
        return path

    def _sprites(self, extent: Tensor, speed: float, far: float, *, spread: float) -> _Sprites:
        """Draw a sprite for every clip, of an extent (B,) in shares of the shorter side."""
        item = self.integers(len(self.atlas.first), self.clips)
        count = self.atlas.count[item]
        start = (self.uniform(self.clips) * count).long()
        stride = self.integers(2, self.clips) + 1
        # Frame 1 is some way off the reference, in shape as in place.
        steps = torch.tensor([0, *range(3, self.frames + 2)], device=self.device)
        turn = (start[:, None] + stride[:, None] * steps) % (2 * count[:, None] - 1).clamp(min=1)
        # After the last picture the motion runs backward.
        folded = torch.minimum(turn, (2 * count[:, None] - 2 - turn).clamp(min=0))
        index = self.atlas.first[item][:, None] + folded.minimum(count[:, None] - 1)
        scale = extent / _SPRITE_SHARE
        poses = self._path(scale, speed, far)
        poses[..., :2] += self.uniform(self.clips, 1, 2, low=-spread, high=spread)
        poses[..., 2] += 0.15 * self.normal(self.clips, 1)
        poses[..., 3] += scale.log()[:, None]
        bends = self.chance(0.6, self.clips, 1, 1, 1, 1) * self.uniform(
            self.clips, 1, 1, 1, 1, low=0.004, high=0.03
        )
        changes = bends * self.normal(self.clips, self.frames, 2, 4, 4)
        changes[:, 0] = 0
        gain = torch.ones(self.clips, 3, device=self.device)
        return _Sprites(index, poses, changes.cumsum(1), gain)

    def _other(self, target: _Sprites, extent: Tensor, speed: float, far: float) -> _Sprites:
        """Draw a sprite beside the marked one; a fifth are its lookalikes, and some are absent."""
        factor = torch.exp(self.uniform(self.clips, low=-0.8, high=0.8))
        other = self._sprites(extent.clamp(max=0.9) * factor, speed, far, spread=0.7)
        twin = self.chance(0.22, self.clips)
        index = torch.where(twin[:, None] > 0, target.index, other.index)
        tint = 1 + twin[:, None] * 0.25 * self.normal(self.clips, 3)
        absent = self.chance(0.45, self.clips)
        poses = other.poses.clone()
        poses[..., 0] += _OUT_OF_SIGHT * absent[:, None]
        return _Sprites(index, poses, other.bend, tint.clamp(0.5, 1.5))

    def _hide(self, target: _Sprites) -> _Sprites:
        """Take the marked sprite out of sight in one later frame of every tenth clip."""
        if self.frames < 3:
            return target
        poses = target.poses.clone()
        leaves = self.chance(0.1, self.clips)
        when = 1 + self.integers(self.frames - 1, self.clips)
        poses[torch.arange(self.clips, device=self.device), when, 0] += _OUT_OF_SIGHT * leaves
        return _Sprites(target.index, poses, target.bend, target.gain)

    def _crops(self, poses: Tensor) -> Tensor:
        """Return the maps (B, T, 3, 3) from the scene to pixels; most follow the sprite."""
        height, width = self.size
        follows = self.chance(0.75, self.clips)[:, None]
        # One that is out of sight is not followed there.
        near = (poses[..., 0].abs() < _OUT_OF_SIGHT / 2).float()
        centre = follows[..., None] * near[..., None] * poses[..., :2]
        centre = centre + follows[..., None] * 0.09 * self.normal(self.clips, self.frames, 2)
        zoom = poses[:, :1, 3] - poses[..., 3] + 0.15 * self.normal(self.clips, self.frames)
        scale = torch.exp(follows * zoom) * min(height, width)
        crops = torch.zeros(self.clips, self.frames, 3, 3, device=self.device)
        crops[..., 0, 0] = scale
        crops[..., 1, 1] = scale
        crops[..., 0, 2] = width / 2 - scale * centre[..., 0]
        crops[..., 1, 2] = height / 2 - scale * centre[..., 1]
        crops[..., 2, 2] = 1
        return crops

    def _render(
        self,
        layers: Sequence[_Sprites],
        marked: int,
        photo: Tensor,
        ground: Tensor,
        crops: Tensor,
        shutter: float,
    ) -> tuple[Tensor, Tensor]:
        """Return rgb (B, T, 3, h, w) and the visible share of each layer, the background first.

        Args:
            layers: sprites, back to front.
            marked: index of the one that may throw a shadow.
            photo: (B,) index of the backgrounds.
            ground: (B, T, 6) their poses.
            crops: (B, T, 3, 3) maps from the scene to pixels.
            shutter: share of a frame's motion during an exposure; 0 for a sharp picture.
        """
        moments = torch.linspace(-0.5, 0.5, _BLUR_SAMPLES).tolist() if shutter else [0.0]
        drawn = []
        for layer in layers:
            motion = torch.diff(layer.poses, dim=1, prepend=layer.poses[:, :1])
            # Frame 1 may be far from frame 0, and a jump is not seen as motion.
            motion[:, 1:2] = motion[:, 2:3] if self.frames > 2 else 0.1 * motion[:, 1:2]
            motion = motion * (motion[..., :2].abs().amax(-1, keepdim=True) < 1)
            parts = [
                self._draw(layer, layer.poses + shutter * moment * motion, crops)
                for moment in moments
            ]
            drawn.append(torch.stack(parts).mean(0))
        image = self._background(photo, ground, crops)
        shares = [torch.ones_like(image[:, :, :1])]
        strength = self.chance(0.3, self.clips) * self.uniform(self.clips, low=0.2, high=0.6)
        for i, picture in enumerate(drawn):
            cover = picture[:, :, 3:]
            if i == marked:
                image = image * (1 - strength[:, None, None, None, None] * self._shadow(cover))
            image = image * (1 - cover) + picture[:, :, :3]
            shares = [each * (1 - cover) for each in shares] + [cover]
        return image, torch.cat(shares, 2)

    def _draw(self, layer: _Sprites, poses: Tensor, crops: Tensor) -> Tensor:
        """Return a layer as (B, T, 4, h, w) 0-1, premultiplied."""
        grid = self._to_picture(layer, poses, crops)
        pictures = self.atlas.pictures[layer.index.flatten()].float() / 255
        seen = F.grid_sample(pictures, 2 * grid, align_corners=False)
        seen = self._by_clip(seen)
        colour = torch.minimum(seen[:, :, :3] * layer.gain[:, None, :, None, None], seen[:, :, 3:])
        return torch.cat([colour, seen[:, :, 3:]], 2)

    def _to_picture(self, layer: _Sprites, poses: Tensor, crops: Tensor) -> Tensor:
        """Return the point of the picture at each pixel, (B T, h, w, 2), -0.5 to 0.5 in it."""
        onto = torch.linalg.inv(crops @ to_matrices(poses)).flatten(0, 1)
        points = self._transform(onto, self._pixels())
        bend = layer.bend.flatten(0, 1)
        return points + F.grid_sample(
            bend, 2 * points, mode="bilinear", padding_mode="border", align_corners=False
        ).permute(0, 2, 3, 1)

    def _background(self, photo: Tensor, ground: Tensor, crops: Tensor) -> Tensor:
        """Return the backgrounds (B, T, 3, h, w), mirrored beyond their edges."""
        onto = torch.linalg.inv(crops @ to_matrices(ground)).flatten(0, 1)
        points = self._transform(onto, self._pixels()) / _GROUND
        photos = self.atlas.photos[photo].float().repeat_interleave(self.frames, 0) / 255
        seen = F.grid_sample(photos, 2 * points, padding_mode="reflection", align_corners=False)
        return self._by_clip(seen)

    def _shadow(self, cover: Tensor) -> Tensor:
        """Return the alpha (B, T, 1, h, w) of a layer, moved a little and blurred."""
        height, width = self.size
        away = (self.uniform(2, low=-0.15, high=0.15) * min(self.size)).round().long().tolist()
        moved = torch.roll(cover, away, (3, 4)).flatten(0, 1)
        radius = max(1, min(height, width) // 24)
        return self._by_clip(_box_blur(moved, radius))

    def _flow(
        self, layers: Sequence[_Sprites], ground: Tensor, crops: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the flow to the frame before, or from frame 0 to the next, and where it is known.

        A pixel's flow is that of the layers in it, by their visible shares. It is known if the
        layer that is on top there is also on top at its end, as forward and backward flow would
        agree then.

        Returns:
            (B, T, h, w, 2) in pixels, both frames seen through the window of the first; and
            (B, T, h, w) uint8 of 0 and 1.
        """
        other = self._others()
        pixels = self._pixels()
        ends = [self._moved_ground(ground, crops, other)]
        ends += [self._moved(layer, crops, other) for layer in layers]
        weights = shares.flatten(0, 1)[..., None]
        # The scene positions after the motion, and the same in the window of this frame.
        scene = sum(weights[:, i] * end for i, end in enumerate(ends))
        assert isinstance(scene, Tensor)
        flow = self._transform(crops.flatten(0, 1), scene) - pixels
        flow = flow.clamp(-max(self.size), max(self.size)).permute(0, 3, 1, 2)
        # Estimates are smooth over outlines, and drift where there is no texture.
        drift = F.interpolate(
            self.normal(len(flow), 2, 5, 5), size=self.size, mode="bicubic", align_corners=False
        )
        rough = self.uniform(len(flow), 1, 1, 1) ** 3
        # Beyond its reach an estimate is wrong, and forward and backward flow disagree.
        reach = self.uniform(len(flow), 1, 1, 1, low=0.03, high=0.3) * max(self.size)
        reached = flow.square().sum(1, keepdim=True) < reach.square()
        flow = _box_blur(flow * reached, max(1, min(self.size) // 48)) + rough * drift
        lost = self._blobs(len(flow), share=0.5)

        top = shares.argmax(2, keepdim=True).float()
        landed = self._transform(crops[:, other].flatten(0, 1), scene)
        grid = self._normalised(landed)
        there = F.grid_sample(
            top[:, other].flatten(0, 1), grid, mode="nearest", align_corners=False
        )
        inside = (grid.abs() <= 1).all(-1)[:, None]
        known = inside & (there == top.flatten(0, 1)) & reached & ~lost
        return (
            self._by_clip(flow.permute(0, 2, 3, 1)).contiguous(),
            self._by_clip(known[:, 0].to(torch.uint8)),
        )

    def _blobs(self, count: int, *, share: float) -> Tensor:
        """Draw smooth regions (N, 1, h, w) bool that cover up to a share of each frame."""
        coarse = self.uniform(count, 1, 7, 7)
        smooth = F.interpolate(coarse, size=self.size, mode="bilinear", align_corners=False)
        return smooth < self.uniform(count, 1, 1, 1, high=share)

    def _moved(self, layer: _Sprites, crops: Tensor, other: list[int]) -> Tensor:
        """Return the place in the scene (B T, h, w, 2) of each pixel's part in the other frame."""
        points = self._to_picture(layer, layer.poses, crops)
        bend = layer.bend[:, other].flatten(0, 1)
        # The bend is small and smooth, so it is undone by its value at the end.
        undone = points - F.grid_sample(
            bend, 2 * points, padding_mode="border", align_corners=False
        ).permute(0, 2, 3, 1)
        return self._transform(to_matrices(layer.poses[:, other]).flatten(0, 1), undone)

    def _moved_ground(self, ground: Tensor, crops: Tensor, other: list[int]) -> Tensor:
        onto = torch.linalg.inv(crops @ to_matrices(ground))
        moved = to_matrices(ground[:, other]) @ onto
        return self._transform(moved.flatten(0, 1), self._pixels())

    def _mark(self, alpha: Tensor, prompt: PromptKind) -> tuple[Tensor, Tensor]:
        """Return labels and known (B, 1, h, w) uint8 of marks on alpha (B, 1, h, w) uint8."""
        inside = alpha > INSIDE
        outside = alpha < OUTSIDE
        everywhere = torch.ones_like(alpha)
        # An object of very few pixels always gets its whole matte.
        tiny = inside.sum((1, 2, 3), keepdim=True) < 12
        if prompt == "mask":
            return alpha, everywhere
        if prompt == "box":
            known = 1 - self._boxes(inside)
            labels = torch.zeros_like(alpha)
        else:
            spots = 1 if prompt == "clicks" else 6
            known = self._spots(inside, 5, spots) | self._spots(outside, 3, spots, least=0)
            known = (known & (inside | outside)).to(torch.uint8)
            labels = inside.to(torch.uint8) * 255
        return torch.where(tiny, alpha, labels), torch.where(tiny, everywhere, known)

    def _boxes(self, inside: Tensor) -> Tensor:
        """Return 1 in a loose box around each object (B, 1, h, w), else 0."""
        height, width = self.size
        rows = inside.any(3).float()[:, 0]
        columns = inside.any(2).float()[:, 0]
        top, bottom = rows.argmax(1), height - rows.flip(1).argmax(1)
        left, right = columns.argmax(1), width - columns.flip(1).argmax(1)
        longest = torch.maximum(bottom - top, right - left)[:, None]
        loose = self.uniform(self.clips, 4, high=0.08) * longest
        y = torch.arange(height, device=self.device)[None]
        x = torch.arange(width, device=self.device)[None]
        in_rows = (y >= top[:, None] - loose[:, :1]) & (y < bottom[:, None] + loose[:, 1:2])
        in_columns = (x >= left[:, None] - loose[:, 2:3]) & (x < right[:, None] + loose[:, 3:])
        return (in_rows[:, :, None] & in_columns[:, None]).to(torch.uint8)[:, None]

    def _spots(self, region: Tensor, most: int, length: int, *, least: int = 1) -> Tensor:
        """Return discs (B, 1, h, w) bool around random pixels of a region, strung to strokes.

        Args:
            region: (B, 1, h, w) bool.
            most: largest number of marks.
            length: discs of a mark; each is a short way from the one before.
            least: smallest number of marks.
        """
        height, width = self.size
        radius = prompt_radius(self.size) * torch.exp(
            self.uniform(self.clips, 1, 1, low=-0.4, high=0.9)
        )
        # Away from the region's edge where it is thick enough.
        depth = F.avg_pool2d(region.float(), 7, 1, 3)
        fit = region & (depth > 0.98 * depth.amax((2, 3), keepdim=True).clamp(max=1.0))
        scores = self.uniform(self.clips, 1, height, width) * fit
        chosen = scores.flatten(1).topk(most, 1).indices
        number = least + (self.uniform(self.clips) * (most - least + 1)).long()
        used = torch.arange(most, device=self.device)[None] < number[:, None]
        used &= scores.flatten(1).gather(1, chosen) > 0
        x = (chosen % width).float()
        y = (chosen // width).float()
        heading = self.uniform(self.clips, most, high=6.3)
        pixels = self._pixels()[0]
        found = torch.zeros(self.clips, height, width, dtype=torch.bool, device=self.device)
        for _ in range(length):
            for k in range(most):
                across = pixels[..., 0] - x[:, k, None, None]
                down = pixels[..., 1] - y[:, k, None, None]
                disc = across.square() + down.square() <= radius.square()
                found |= disc & used[:, k, None, None]
            heading = heading + 0.5 * self.normal(self.clips, most)
            x = x + 1.5 * radius[:, 0] * heading.cos()
            y = y + 1.5 * radius[:, 0] * heading.sin()
        return found[:, None]

    def _expose(self, rgb: Tensor) -> Tensor:
        """Return rgb (B, T, 3, h, w) uint8 as a camera sees it: gamma, light, blur and noise."""
        shape = (self.clips, 1, 1, 1, 1)
        seen = rgb.clamp(0, 1) ** torch.exp(0.2 * self.normal(*shape))
        # Exposure and white balance of each frame differ in every third clip.
        drifts = self.chance(0.35, *shape)
        light = self.uniform(self.clips, self.frames, 1, 1, 1, low=0.8, high=1.2)
        balance = self.uniform(self.clips, self.frames, 3, 1, 1, low=-0.06, high=0.06)
        seen = seen * (1 + drifts * (light - 1)) + drifts * balance
        soft = self.chance(0.4, *shape)
        blurred = self._by_clip(_box_blur(seen.flatten(0, 1), 1))
        seen = soft * blurred + (1 - soft) * seen
        grain = 0.03 * self.uniform(*shape) ** 2
        seen = seen + grain * self.normal(*seen.shape)
        return (seen.clamp(0, 1) * 255).round().to(torch.uint8)

    def _others(self) -> list[int]:
        """Return the frame that each frame's flow leads to: the one before; frame 1 for frame 0."""
        return [abs(t - 1) for t in range(self.frames)]

    def _by_clip(self, x: Tensor) -> Tensor:
        """Return x (B T, ...) as (B, T, ...)."""
        return x.reshape(self.clips, self.frames, *x.shape[1:])

    def _pixels(self) -> Tensor:
        """Return x and y of the pixels, (1, h, w, 2)."""
        height, width = self.size
        y, x = torch.meshgrid(
            torch.arange(height, device=self.device),
            torch.arange(width, device=self.device),
            indexing="ij",
        )
        return torch.stack([x, y], -1)[None].float()

    def _normalised(self, points: Tensor) -> Tensor:
        """Return points (N, h, w, 2) in pixels as `grid_sample` takes them."""
        height, width = self.size
        return (points + 0.5) / torch.tensor([width, height], device=self.device) * 2 - 1

    @staticmethod
    def _transform(maps: Tensor, points: Tensor) -> Tensor:
        """Apply maps (N, 3, 3) to points (N or 1, h, w, 2)."""
        linear = maps[:, None, None, :2, :2]
        moved = (linear @ points[..., None])[..., 0]
        return moved + maps[:, None, None, :2, 2]


def to_matrices(poses: Tensor) -> Tensor:
    """Return the maps (..., 3, 3) of poses (..., 6), as `synth.render.to_matrix` does for one."""
    x, y, angle, log_scale, shear_x, shear_y = poses.unbind(-1)
    scale = log_scale.exp()
    cosine = angle.cos() * scale
    sine = angle.sin() * scale
    zero = torch.zeros_like(x)
    one = torch.ones_like(x)
    rows = [
        torch.stack([cosine - sine * shear_y, cosine * shear_x - sine, x], -1),
        torch.stack([sine + cosine * shear_y, sine * shear_x + cosine, y], -1),
        torch.stack([zero, zero, one], -1),
    ]
    return torch.stack(rows, -2)


def _box_blur(x: Tensor, radius: int) -> Tensor:
    """Return x (N, C, h, w) averaged twice over squares, close to a Gaussian."""
    for _ in range(2):
        x = F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)
    return x
