"""What the network of `compact` minimises: procedural clips, propagated as in use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.model.compact.motion import motion_cue
from vidmatte.model.compact.net import RECENT_FRAMES, CompactNet, Prediction
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.losses import Batch, jaccard, matting_losses, optimizer_step, weighted_sum
from vidmatte.synth.render import Clip


def collate(clips: list[Clip]) -> Batch:
    """Clips of one size as a batch: each field (B, T, ...) or (B, ...) in its own dtype."""
    names = ("rgb", "alpha", "flow", "flow_known", "between", "labels", "known")
    return {
        name: torch.from_numpy(np.stack([getattr(clip, name) for clip in clips])) for name in names
    }


def loss(
    net: CompactNet, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Follow each clip of a batch frame by frame and sum the losses. Figures are mean terms, and mean J by frame."""
    with torch.autocast(batch["rgb"].device.type, precision, enabled=precision != torch.float32):
        predictions = list(propagate(net, batch, generator))
    truth = batch["alpha"].float() / 255
    losses = [matting_losses(prediction, truth[:, t]) for t, prediction in predictions]
    terms = {name: torch.stack([found[name] for found in losses]).mean() for name in losses[0]}
    reached = {
        t: jaccard(prediction.alpha.detach(), truth[:, t]).mean().item()
        for t, prediction in predictions
    }
    scores = {f"J{t}": reached[t] for t in reached if t < 3}
    return weighted_sum(terms), {**{name: term.item() for name, term in terms.items()}, **scores}


def learn(
    net: CompactNet,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    generator: torch.Generator,
    *,
    precision: torch.dtype,
) -> None:
    """One step on one batch, outside of the loop: for the adaptation."""
    optimiser.zero_grad(set_to_none=True)
    total, _ = loss(net, batch, generator, precision)
    torch.autograd.backward(total)
    optimizer_step(net, optimiser)


def propagate(
    net: CompactNet, batch: Batch, generator: torch.Generator, *, feedback: float = 0.85
) -> Iterator[tuple[int, Prediction]]:
    """Matte a batch of clips as inference does, feeding mattes back; yields (frame, prediction) for those decoded.

    What a frame leaves for the next (memory and prior) is the network's own matte with a chance of `feedback`,
    else the truth. The prior is corrupted now and then, so that the network learns when to overrule it; with `feedback`
    1, as in validation, nothing is corrupted or left out.
    """
    rgb, truth, known = (
        batch["rgb"].float() / 255,
        batch["alpha"].float() / 255,
        batch["known"].float(),
    )
    clips, frames = rgb.shape[:2]
    to_frame = chain_crops(batch["between"].float()).flatten(0, 1)
    frames_last = rgb.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    features = net.encode(frames_last, to_frame)
    each = [features[_frame_slice(t, frames, clips)] for t in range(frames)]
    none = torch.zeros_like(truth[:, 0])
    matte = truth[:, 0]

    def cue(flow: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """Images of a set have no motion, so the network is to do without it now and then."""
        return motion_cue(flow, inside, outside) * _bernoulli(
            none, 0.85 if feedback < 1 else 1.0, generator
        )

    if not bool(known.all()):
        labels = batch["labels"].float() / 255
        motion = cue(batch["flow"][:, 0], labels * known, 1 - labels * known)
        prediction = net.decode(
            rgb[:, 0], each[0], [net.encode_memory(each[0], labels, known)], labels, known, motion
        )
        yield 0, prediction
        matte = _mix_per_item(
            prediction.alpha.detach(), truth[:, 0], 0.5 if feedback < 1 else 1.0, generator
        )
    memories: list[Memory] = [net.encode_memory(each[0], matte, torch.ones_like(none))]
    recent = list(memories)
    for t in range(1, frames):
        prior = warp(matte, batch["flow"][:, t], batch["between"][:, t])
        prior = corrupt_prior(prior, generator) if feedback < 1 else prior
        present = _bernoulli(
            prior, (0.7 if t == 1 else 0.9) if feedback < 1 else 1.0, generator
        ).expand_as(prior)
        # Where flow and opposite flow disagree, nothing is expected.
        present = present * batch["flow_known"][:, t, None].float()
        motion = cue(batch["flow"][:, t], prior * present, 1 - prior * present)
        reads_recent = feedback == 1 or _coin_flip(0.9, generator)
        nearby = recent[-RECENT_FRAMES:] if reads_recent else []
        prediction = net.decode(rgb[:, t], each[t], memories, prior, present, motion, nearby)
        yield t, prediction
        matte = _mix_per_item(prediction.alpha.detach(), truth[:, t], feedback, generator)
        recent.append(net.encode_memory(each[t], matte, torch.ones_like(none)))
        between_them = memories[1:][-1:] if _coin_flip(0.5, generator) else []
        memories = [memories[0], *between_them, recent[-1]]


def chain_crops(between: Tensor) -> Tensor:
    """Return the maps (N, T, 2, 3) from pixels of each frame's crop to those of frame 0.

    `between` (N, T, 2, 3) leads from each crop to the one before it; that of frame 0 is not read.
    """
    last_row = torch.tensor([0.0, 0.0, 1.0], device=between.device).expand(len(between), 1, 3)
    to_first = torch.eye(3, device=between.device).expand(len(between), 3, 3)
    maps = [to_first[:, :2]]
    for t in range(1, between.shape[1]):
        to_first = to_first @ torch.cat([between[:, t], last_row], 1)
        maps.append(to_first[:, :2])
    return torch.stack(maps, 1)


def warp(alpha: Tensor, flow: Tensor, between: Tensor) -> Tensor:
    """Alpha (N, 1, h, w) of the frame before, seen from this one along `flow` (N, h, w, 2) and `between` (N, 2, 3)."""
    height, width = alpha.shape[-2:]
    y, x = torch.meshgrid(
        *(torch.arange(side, device=alpha.device) for side in (height, width)), indexing="ij"
    )
    places = torch.stack([x, y], -1) + flow
    places = torch.einsum("nhwi,nji->nhwj", places, between[..., :2]) + between[:, None, None, :, 2]
    size = torch.tensor([width, height], device=alpha.device)
    return F.grid_sample(alpha, (places + 0.5) / size * 2 - 1, align_corners=False)


def corrupt_prior(prior: Tensor, generator: torch.Generator) -> Tensor:
    """Corrupt about a fifth of the priors (N, 1, h, w): shifted, grown, shrunk, faded, half lost or partly invented."""
    height, width = prior.shape[-2:]
    shift = (torch.randint(-height // 12, height // 12 + 1, (2,), generator=generator)).tolist()
    radius = int(torch.randint(1, max(3, height // 24), (1,), generator=generator))
    grown = F.max_pool2d(prior, 2 * radius + 1, 1, radius)
    shrunk = -F.max_pool2d(-prior, 2 * radius + 1, 1, radius)
    blob = torch.rand(len(prior), 1, 4, 4, generator=generator).to(prior)
    blob = (F.interpolate(blob, size=(height, width), mode="bicubic") > 0.75).float()
    kinds = [
        torch.roll(prior, shift, (2, 3)),
        grown,
        shrunk,
        prior * blob.mean(),
        prior * (1 - blob),
        torch.maximum(prior, blob),
    ]
    choice = torch.rand(len(prior), 1, 1, 1, generator=generator).to(prior)
    for i, kind in enumerate(kinds):
        prior = torch.where((choice >= 0.035 * i) & (choice < 0.035 * (i + 1)), kind, prior)
    return prior


def _frame_slice(t: int, frames: int, clips: int) -> slice:
    """Frame t of every clip in a flattened (clips x frames) batch."""
    return slice(t, frames * clips, frames)


def _bernoulli(like: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """(N, 1, 1, 1) 1 with a chance, else 0."""
    return (torch.rand(len(like), 1, 1, 1, generator=generator) < chance).to(like)


def _mix_per_item(
    first: Tensor, second: Tensor, chance: float, generator: torch.Generator
) -> Tensor:
    """Per item `first` with a chance, else `second`."""
    coin = _bernoulli(first, chance, generator)
    return coin * first + (1 - coin) * second


def _coin_flip(chance: float, generator: torch.Generator) -> bool:
    return float(torch.rand(1, generator=generator)) < chance
