"""Compute the training loss of `compact`: procedural clips, propagated as at inference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.imaging.arrays import Alpha
from vidmatte.model.compact.motion import motion_cue
from vidmatte.model.compact.net import RECENT_FRAMES, CompactNet, Prediction, mark_channels
from vidmatte.model.losses import Batch, jaccard, matting_losses, optimizer_step, weighted_sum
from vidmatte.synth.prompts import add_correction
from vidmatte.synth.render import Clip

_CORRECTIONS = torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1])
"""Chances of so many corrections of a marked frame in training."""


def collate(clips: list[Clip]) -> Batch:
    """Return clips of one size as a batch: each field (B, T, ...) or (B, ...) in its own dtype."""
    batch: Batch = {}
    for name in ("rgb", "alpha", "flow", "flow_known", "between", "labels", "known"):
        fields = [getattr(clip, name) for clip in clips]
        batch[name] = torch.from_numpy(np.stack(fields))
    return batch


def loss(
    net: CompactNet, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Matte each clip of a batch frame by frame and sum the losses.

    Args:
        net: the network.
        batch: B clips of T frames, from `collate`.
        generator: of the corruptions, on the CPU.
        precision: dtype of the forward pass.

    Returns:
        The weighted sum of the terms; and figures: each term's mean over the frames, and the mean J
        of each of the first three frames as `J0`, `J1`, `J2`, and that of the marked frame after
        all corrections as `J0+`.
    """
    with torch.autocast(batch["rgb"].device.type, precision, enabled=precision != torch.float32):
        predictions = list(propagate(net, batch, generator))
    truth = batch["alpha"].float() / 255
    losses = [matting_losses(prediction, truth[:, t]) for t, prediction in predictions]
    terms = {name: torch.stack([found[name] for found in losses]).mean() for name in losses[0]}
    figures = {name: term.item() for name, term in terms.items()}
    for t, prediction in predictions:
        # The marked frame, the one that may be far from it, and the first single step.
        if t < 3:
            name = f"J{t}+" if f"J{t}" in figures else f"J{t}"
            figures[name] = jaccard(prediction.alpha.detach(), truth[:, t]).mean().item()
    return weighted_sum(terms), figures


def confidence_loss(
    net: CompactNet, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Matte each clip of a batch as in use, and compare the confidence with the J reached.

    Arguments and results are those of `loss`. Long clips are needed: over a few frames a matte is
    rarely lost, and the network would learn to be confident.

    Returns:
        The cross-entropy of confidence and J; and figures: the mean `confidence` and the mean `J`.
    """
    truth = batch["alpha"].float() / 255
    logits = []
    reached = []
    with torch.autocast(batch["rgb"].device.type, precision, enabled=precision != torch.float32):
        for t, prediction in propagate(net, batch, generator, feedback=1.0):
            logits.append(prediction.confidence_logits)
            reached.append(jaccard(prediction.alpha.detach(), truth[:, t]))
    estimated = torch.stack(logits)
    overlap = torch.stack(reached)
    total = F.binary_cross_entropy_with_logits(estimated, overlap)
    figures = {
        "cross_entropy": total.item(),
        "confidence": estimated.detach().sigmoid().mean().item(),
        "J": overlap.mean().item(),
    }
    return total, figures


def learn(
    net: CompactNet,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    generator: torch.Generator,
    *,
    precision: torch.dtype,
) -> None:
    """Make one step on one batch; used by the adaptation, which has no training loop."""
    optimiser.zero_grad(set_to_none=True)
    total, _ = loss(net, batch, generator, precision)
    torch.autograd.backward(total)
    optimizer_step(net, optimiser)


def propagate(
    net: CompactNet,
    batch: Batch,
    generator: torch.Generator,
    *,
    feedback: float = 0.85,
    corrections: int | None = None,
) -> Iterator[tuple[int, Prediction]]:
    """Matte a batch of clips as inference does; each matte leads to the next.

    A frame passes memory and prior on to the next: from the network's own matte with a chance of
    `feedback`, else from the truth. The prior is corrupted sometimes, so that the network learns to
    overrule it.

    Args:
        net: the network.
        batch: B clips of T frames, from `collate`.
        generator: of all draws, on the CPU.
        feedback: 1, as in validation, also turns off corruption and omission.
        corrections: clicks of a person who corrects the matte of a marked frame 0; None for a
            random number.

    Yields:
        Frame number and prediction of each decoded frame. Frame 0 is decoded only if some of its
        pixels are unmarked; it comes again after each correction.
    """
    training = feedback < 1
    rgb = batch["rgb"].float() / 255
    truth = batch["alpha"].float() / 255
    known = batch["known"].float()
    clips, frames = rgb.shape[:2]
    to_frame = chain_crops(batch["between"].float()).flatten(0, 1)
    # One pass of the encoder over all frames is faster than one for each.
    frames_last = rgb.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    features = net.encode(frames_last, to_frame)
    each = [features[_frame_slice(t, frames, clips)] for t in range(frames)]
    everywhere = torch.ones_like(truth[:, 0])
    matte = truth[:, 0]
    # (B, T) whether a frame has a neighbour in time: different photographs have none.
    follows = batch["flow_known"].flatten(2).any(-1)

    def cue(t: int, inside: Tensor) -> Tensor:
        """Return the motion cue of a frame, sometimes 0: single images have no motion."""
        kept = _bernoulli(inside, 0.85 if training else 1.0, generator)
        kept = kept * follows[:, t, None, None, None]
        return motion_cue(batch["flow"][:, t], inside, 1 - inside) * kept

    if not bool(known.all()):
        labels = batch["labels"].float() / 255
        motion = cue(0, labels * known)
        marked = net.encode_memory(each[0], labels, known)
        marks = mark_channels(labels, known)
        prediction = net.decode(rgb[:, 0], each[0], [marked], labels, known, motion, marks=marks)
        yield 0, prediction
        if corrections is None:
            corrections = int(torch.multinomial(_CORRECTIONS, 1, generator=generator))
        for _ in range(corrections):
            found = prediction.alpha.detach()
            labels, known = _correct(found, truth[:, 0], labels, known, generator)
            prior = torch.where(known > 0, labels, found)
            memories = [
                net.encode_memory(each[0], labels, known),
                net.encode_memory(each[0], prior, everywhere),
            ]
            marks = mark_channels(labels, known)
            motion = cue(0, prior)
            prediction = net.decode(
                rgb[:, 0], each[0], memories, prior, everywhere, motion, marks=marks
            )
            yield 0, prediction
        own = 0.5 if training else 1.0
        matte = _mix_per_item(prediction.alpha.detach(), truth[:, 0], own, generator)
    memories = [net.encode_memory(each[0], matte, everywhere)]
    recent = list(memories)
    for t in range(1, frames):
        prior = warp(matte, batch["flow"][:, t], batch["between"][:, t])
        chance = 1.0
        if training:
            prior = corrupt_prior(prior, generator)
            # Frame 1 may be far from frame 0, so its prior is missing more often.
            chance = 0.7 if t == 1 else 0.9
        present = _bernoulli(prior, chance, generator).expand_as(prior)
        # If flow and opposite flow disagree, nothing is expected.
        present = present * batch["flow_known"][:, t, None].float()
        motion = cue(t, prior * present)
        reads_recent = not training or _coin_flip(0.9, generator)
        # Places of different photographs have nothing to do with each other.
        nearby = recent[-RECENT_FRAMES:] if reads_recent and bool(follows[:, t].any()) else []
        prediction = net.decode(rgb[:, t], each[t], memories, prior, present, motion, nearby)
        yield t, prediction
        matte = _mix_per_item(prediction.alpha.detach(), truth[:, t], feedback, generator)
        recent.append(net.encode_memory(each[t], matte, everywhere))
        # As at inference: the reference, sometimes a second one, and the last frame.
        between_them = memories[1:][-1:] if _coin_flip(0.5, generator) else []
        memories = [memories[0], *between_them, recent[-1]]


def _correct(
    found: Tensor, truth: Tensor, labels: Tensor, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the marks of a batch, (N, 1, h, w) labels and known, with a correction in each item.

    Clicks are placed on the CPU, by the same function as in the interactive protocol.
    """
    seed = int(torch.randint(2**31, (1,), generator=generator))
    rng = np.random.default_rng(seed)
    marks = [
        add_correction(_plane(found[i]), _plane(truth[i]), _plane(labels[i]), _plane(known[i]), rng)
        for i in range(len(found))
    ]
    after = np.stack([np.stack(both) for both in marks])
    placed = torch.from_numpy(after).to(labels)
    return placed[:, :1], placed[:, 1:]


def _plane(item: Tensor) -> Alpha:
    """Return (1, h, w) on any device as (h, w) float32."""
    return np.asarray(item[0].float().cpu().numpy(), np.float32)


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
    """Warp the matte of the frame before to this frame.

    Args:
        alpha: (N, 1, h, w) of the frame before.
        flow: (N, h, w, 2) in pixels, from this frame to that one, both seen through this window.
        between: (N, 2, 3) from pixels of this window to those of that one.

    Returns:
        (N, 1, h, w); 0 for what lies outside of the frame before.
    """
    height, width = alpha.shape[-2:]
    rows = torch.arange(height, device=alpha.device)
    columns = torch.arange(width, device=alpha.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y], -1) + flow
    places = torch.einsum("nhwi,nji->nhwj", places, between[..., :2]) + between[:, None, None, :, 2]
    size = torch.tensor([width, height], device=alpha.device)
    return F.grid_sample(alpha, (places + 0.5) / size * 2 - 1, align_corners=False)


def corrupt_prior(prior: Tensor, generator: torch.Generator) -> Tensor:
    """Corrupt about a fifth of the priors (N, 1, h, w).

    Six kinds with 3.5 % each: shifted, grown, shrunk, faded, half lost, partly invented.
    """
    height, width = prior.shape[-2:]
    shift = torch.randint(-height // 12, height // 12 + 1, (2,), generator=generator).tolist()
    radius = int(torch.randint(1, max(3, height // 24), (1,), generator=generator))
    grown = F.max_pool2d(prior, 2 * radius + 1, 1, radius)
    shrunk = -F.max_pool2d(-prior, 2 * radius + 1, 1, radius)
    # Few random cells, enlarged smoothly, make blobs.
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
    """Return the slice of frame t of every clip in a flattened (clips x frames) batch."""
    return slice(t, frames * clips, frames)


def _bernoulli(like: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Draw (N, 1, 1, 1) 1 with a chance, else 0.

    The draw is made on the CPU, so that it is the same on every device.
    """
    return (torch.rand(len(like), 1, 1, 1, generator=generator) < chance).to(like)


def _mix_per_item(
    first: Tensor, second: Tensor, chance: float, generator: torch.Generator
) -> Tensor:
    """Return for each item of a batch `first` with a chance, else `second`."""
    coin = _bernoulli(first, chance, generator)
    return coin * first + (1 - coin) * second


def _coin_flip(chance: float, generator: torch.Generator) -> bool:
    return float(torch.rand(1, generator=generator)) < chance
