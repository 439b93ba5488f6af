"""IconMatting behind the common interface: references in, mattes of any frame size out.

The trained variant (`net.py`) and the training-free one (`free.py`) share it. Each frame is matted
alone, with the same noise for every frame, for equal mattes of a still clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.errors import ModelError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.iconmatting.batches import BatchLimit, is_out_of_memory
from vidmatte.model.iconmatting.fit import Fit
from vidmatte.model.iconmatting.free import FinishAlpha, TrainingFreeDecoder
from vidmatte.model.iconmatting.full_size import to_full_size
from vidmatte.model.iconmatting.net import Decoded, IconMattingNet
from vidmatte.model.iconmatting.options import IconMattingOptions
from vidmatte.model.iconmatting.prompts import query_cells
from vidmatte.model.iconmatting.similarity import match
from vidmatte.model.iconmatting.square_fit import SquareFit, bilinear
from vidmatte.model.iconmatting.stable_diffusion import InContextFeatures, Role, StableDiffusion
from vidmatte.model.interface import CoarseMatte, Model
from vidmatte.prompts.prompt import Reference

_FILLED = 0.05
"""Weight to keep confidence defined if the object fills the frame."""


class Decoder(Protocol):
    """The part of each variant: alpha from similarity."""

    def tokens(self, features: InContextFeatures) -> Tensor:
        """Return the features to match, (N, n, C) float32."""
        ...

    def __call__(
        self,
        rgb: Tensor,
        features: InContextFeatures,
        similarity: Tensor,
        *,
        intra: bool,
        multi_scale: bool,
    ) -> Decoded:
        """Return alpha or guidance of squares (N, 3, S, S) 0-1 from similarity (N, n)."""
        ...

    def finish(self, rgb: Tensor, coarse: Tensor) -> Tensor:
        """Return alpha (1, 1, H, W) of an image (1, 3, H, W) from its result at square scale."""
        ...


@dataclass(frozen=True)
class TrainedDecoder:
    """The released network."""

    net: IconMattingNet
    is_plain: bool = False
    """Whether alpha is resized bilinearly to full size, as by the research code."""

    def tokens(self, features: InContextFeatures) -> Tensor:
        """See `IconMattingNet.tokens`."""
        return self.net.tokens(features)

    def __call__(
        self,
        rgb: Tensor,
        features: InContextFeatures,
        similarity: Tensor,
        *,
        intra: bool,
        multi_scale: bool,
    ) -> Decoded:
        """See `IconMattingNet.forward`."""
        decoded: Decoded = self.net(rgb, features, similarity, intra=intra, multi_scale=multi_scale)
        return decoded

    def finish(self, rgb: Tensor, coarse: Tensor) -> Tensor:
        """Return alpha at full size, see `to_full_size`."""
        if self.is_plain:
            return bilinear(coarse, (rgb.shape[-2], rgb.shape[-1]))
        return to_full_size(rgb, coarse)


@dataclass(frozen=True)
class IconMattingModel:
    """A loaded IconMatting, of either variant."""

    sd: StableDiffusion
    decoder: Decoder
    name: str
    device: torch.device
    precision: torch.dtype
    options: IconMattingOptions
    _limit: BatchLimit = field(repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a note if memory ran out and the batch was made smaller."""
        return self._limit.notes

    def with_reference(self, references: Sequence[Reference]) -> IconMattingPredictor:
        """Encode references (at least one): the features of their marked cells form the query."""
        if not references:
            raise ValueError("at least one reference is needed")
        # More references than the limit are ignored in order: the first ones are the user's best.
        used = references[: self.options.references]
        stream = self.options.stream()
        found = [self._query(reference, stream) for reference in used]
        objects = torch.cat([pair[0] for pair in found])
        background = torch.cat([pair[1] for pair in found])
        return IconMattingPredictor(self, objects, background, len(used), stream)

    def with_seed(self, seed: int) -> IconMattingModel:
        """See `SupportsSeed.with_seed`."""
        return replace(self, options=replace(self.options, seed=seed))

    def _query(self, reference: Reference, stream: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return tokens (Q, C) of the object and (P, C) of the background."""
        fit = self._fit(reference.rgb)
        squares = fit.to_squares(reference.rgb.to(self.device))
        # Again with a smaller batch after memory ran out, until it fits or nothing is left to
        # halve.
        while True:
            try:
                features = self._features(
                    squares, "reference", maps=not reference.is_complete, stream=stream
                )
                break
            except RuntimeError as error:
                self._make_room(error, len(squares))
        marked = query_cells(
            reference, fit, features.cells, features.fine_attention, self.options.positions
        )
        with self._autocast():
            tokens = self.decoder.tokens(features).flatten(0, 1)
        return tokens[marked[0].to(tokens.device)], tokens[marked[1].to(tokens.device)]

    def _fit(self, rgb: Tensor) -> Fit | SquareFit:
        """Return how frames (N, 3, H, W) lie in squares."""
        height, width = rgb.shape[-2:]
        if self.options.fit == "letterbox":
            return Fit(height, width, self.sd.side)
        return SquareFit(height, width, self.sd.side, self.options.fit)

    def _features(
        self, squares: Tensor, role: Role, *, maps: bool, stream: torch.Generator | None
    ) -> InContextFeatures:
        """Return features of Stable Diffusion, in its own precision: no autocast."""
        return self.sd(
            squares,
            self.options.features,
            role=role,
            maps=maps,
            at_once=self._limit.most,
            stream=stream,
        )

    def _make_room(self, error: RuntimeError, squares: int) -> None:
        """Lower the limit after an error about exhausted memory; raise any other error again."""
        if not is_out_of_memory(error):
            raise error
        whole = squares * self.options.ensemble
        self._limit.lower(
            # The limit in force was tried, not the whole batch, if it was smaller.
            whole if self._limit.most is None else min(whole, self._limit.most),
            self.device,
        )

    def _frames_at_once(self, squares: int, frames: int) -> int:
        """Return how many frames of so many squares run together."""
        if self.options.noise == "fresh":
            # Noise is drawn frame by frame, so that it does not depend on the batch.
            return 1
        return self._limit.frames_at_once(frames, squares * self.options.ensemble)

    def _padding(self, squares: int, frames: int) -> int:
        """Return how many frames to add to a batch for a compiled network."""
        # Padding would draw more of fresh noise, and so change the frames after it.
        if not self.options.compile or self.options.noise == "fresh":
            return 0
        return self._limit.padded(frames, squares * self.options.ensemble) - frames

    def _autocast(self) -> torch.autocast:
        """Return the context for the head, with its weights in float32."""
        return torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        )


@dataclass(frozen=True)
class _Seen:
    """Maps of n frames of k squares each, on the device."""

    coarse: Tensor
    """(n, 1, h, w) alpha or guidance over whole frames at the scale of the squares."""
    confidence: Tensor
    """(n,)"""
    inter: Tensor
    """(n k, c, c) similarity."""
    intra: Tensor
    """(n k, c, c)"""

    def first(self, count: int, squares: int) -> _Seen:
        """Return the maps of the first frames, without the padding of a batch."""
        return _Seen(
            self.coarse[:count],
            self.confidence[:count],
            self.inter[: count * squares],
            self.intra[: count * squares],
        )


@dataclass(frozen=True)
class IconMattingPredictor:
    """IconMatting with its references encoded."""

    model: IconMattingModel
    objects: Tensor
    """(Q, C) normalised features of all references inside their regions of interest."""
    background: Tensor
    """(P, C) those of cells marked as background; P may be 0."""
    references: int
    stream: torch.Generator | None = None
    """Draws fresh noise for each frame, after that of the references; None for fixed noise."""

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Return mattes of images, each matted alone.

        Confidence is the share of the inter-similarity inside the matte, corrected for chance: 0 if
        it is not more than the matte's share of the frame, or if there is no matte, 1 if all of it
        is inside. It measures whether the matte covers the area of the references; it is not a
        calibrated probability.
        """
        alphas, confidence = [], []
        for i, coarse in enumerate(self._coarse(batch.rgb)):
            alphas.append(self.finish(batch.rgb[i : i + 1], coarse))
            confidence.append(coarse.confidence)
        return MatteBatch(batch, torch.cat(alphas), tuple(confidence))

    def tracker(self) -> None:
        """Return None: each frame is matted alone."""
        return None

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the squares (k, 3, side, side) of a frame (1, 3, H, W)."""
        return self.model._fit(rgb).to_squares(rgb)

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return alpha (1, 1, H, W) at full size from a coarse matte of the frame's window."""
        fit = self.model._fit(rgb)
        alpha = coarse.alpha[None, None]
        if isinstance(fit, Fit):
            return self.model.decoder.finish(rgb, alpha)
        # What the square does not show is background.
        rows, columns = fit.shown
        full = rgb.new_zeros(1, 1, *rgb.shape[-2:])
        full[..., rows, columns] = self.model.decoder.finish(rgb[..., rows, columns], alpha)
        return full

    def guidance(self, batch: FrameBatch) -> Mapping[str, Tensor]:
        """Return inter- and intra-similarity of images, (N, 1, h, w) float32.

        Each map is scaled to 0..1 over its image.
        """
        fit = self.model._fit(batch.rgb)
        maps: dict[str, list[Tensor]] = {"inter_similarity": [], "intra_similarity": []}
        for seen in self._see(batch.rgb, fit):
            for name, squares in zip(maps, (seen.inter, seen.intra), strict=True):
                # Both maps are enlarged to the square, so the frame can be assembled from its
                # squares.
                size = (self.model.sd.side, self.model.sd.side)
                enlarged = F.interpolate(
                    squares[:, None], size=size, mode="bilinear", align_corners=False
                )
                whole = (
                    fit.assemble(enlarged) if isinstance(fit, Fit) else fit.over_frames(enlarged)
                )
                maps[name].append(_to_unit(whole).cpu())
        return {name: torch.cat(parts) for name, parts in maps.items()}

    def _coarse(self, rgb: Tensor) -> Iterator[CoarseMatte]:
        """Yield coarse mattes in order; those of a chunk while the device computes the next."""
        before: _Transfer | None = None
        fit = self.model._fit(rgb)
        for seen in self._see(rgb, fit):
            # The copy to the CPU runs while the next frames are computed, so results lag by one
            # batch.
            transfer = _Transfer(seen.coarse, seen.confidence)
            if before is not None:
                yield from self._received(before, fit)
            before = transfer
        if before is not None:
            yield from self._received(before, fit)

    def _received(self, transfer: _Transfer, fit: Fit | SquareFit) -> Iterator[CoarseMatte]:
        coarse, confidence = transfer.wait()
        # float16 overflows in some layers of some images.
        if not bool(torch.isfinite(coarse).all()):
            precision = str(self.model.precision).removeprefix("torch.")
            raise ModelError(
                f"model {self.model.name!r}: numbers went out of range in {precision}; choose "
                f"precision bfloat16 or float32"
            )
        window = (0.0, 0.0, 1.0, 1.0) if isinstance(fit, Fit) else fit.window
        for plane, value in zip(coarse[:, 0], confidence.tolist(), strict=True):
            yield CoarseMatte(plane, value, window)

    def _see(self, rgb: Tensor, fit: Fit | SquareFit) -> Iterator[_Seen]:
        """Compute the maps of images, as many at a time as memory allows."""
        model = self.model
        first = 0
        # The size of the batch may fall while the loop runs.
        while first < len(rgb):
            count = model._frames_at_once(fit.squares, len(rgb) - first)
            added = model._padding(fit.squares, count)
            frames = rgb[first : first + count]
            if added:
                # The last frame is repeated, and its copies are dropped below.
                frames = torch.cat([frames, frames[-1:].expand(added, -1, -1, -1)])
            try:
                seen = self._see_some(_upload(frames, model.device), fit)
            except RuntimeError as error:
                model._make_room(error, len(frames) * fit.squares)
                continue
            yield seen.first(count, fit.squares) if added else seen
            first += count

    def _see_some(self, rgb: Tensor, fit: Fit | SquareFit) -> _Seen:
        model = self.model
        options = model.options
        with torch.inference_mode():
            squares = fit.to_squares(rgb)
            features = model._features(squares, "target", maps=options.intra, stream=self.stream)
            with model._autocast():
                similarity = self._match(features, fit)
                decoded = model.decoder(
                    squares,
                    features,
                    similarity,
                    intra=options.intra,
                    multi_scale=options.multi_scale,
                )
            coarse = fit.assemble(decoded.alpha.float())
            confidence = self._confidence(decoded.alpha.float(), similarity, fit, features.cells)
        cells = (features.cells, features.cells)
        return _Seen(
            coarse,
            confidence,
            torch.unflatten(similarity, 1, cells),
            decoded.intra_similarity.float(),
        )

    def _match(self, features: InContextFeatures, fit: Fit | SquareFit) -> Tensor:
        """Return similarity (N k, n).

        The squares of a frame are one target: a query finds its place in either.
        """
        valid = fit.valid_cells(features.cells, features.fine.device)
        tokens = torch.unflatten(self.model.decoder.tokens(features), 0, (-1, fit.squares)).flatten(
            1, 2
        )
        if self.model.options.inter:
            with torch.autocast(tokens.device.type, enabled=False):
                similarity = match(self.objects, self.background, tokens, valid, self.references)
        else:
            # Without matching (table 5), every cell gets an equal share of the references' weight.
            shown = torch.ones_like(tokens[0, :, 0]) if valid is None else valid.float()
            share = len(self.objects) / self.references * shown / shown.sum()
            similarity = share.expand(len(tokens), -1)
        return torch.unflatten(similarity, 1, (fit.squares, -1)).flatten(0, 1)

    def _confidence(
        self, alpha: Tensor, similarity: Tensor, fit: Fit | SquareFit, cells: int
    ) -> Tensor:
        inside = F.avg_pool2d(alpha, alpha.shape[-1] // cells).flatten(1)
        inside, weight = (
            torch.unflatten(x, 0, (-1, fit.squares)).flatten(1) for x in (inside, similarity)
        )
        valid = fit.valid_cells(cells, alpha.device)
        area = inside.mean(1) if valid is None else inside[:, valid].mean(1)
        # Mean alpha of the cells by similarity, compared with alpha over the whole picture.
        share = (inside * weight).sum(1) / weight.sum(1).clamp(min=1e-6)
        return ((share - area + _FILLED * area) / (1 - area + _FILLED * area)).clamp(0, 1)


class _Transfer:
    """Tensors copied from the device during other work."""

    def __init__(self, *tensors: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensors[0].device.type != "cuda":
            self._received = [tensor.cpu() for tensor in tensors]
            return
        # Pinned memory is needed for copies that do not block.
        self._received = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in tensors]
        for host, tensor in zip(self._received, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record()

    def wait(self) -> list[Tensor]:
        if self._event is not None:
            self._event.synchronize()
        return self._received


def _upload(rgb: Tensor, device: torch.device) -> Tensor:
    """Copy frames to the device; from pinned memory without waiting."""
    if device.type != "cuda":
        return rgb.to(device)
    return rgb.pin_memory().to(device, non_blocking=True)


def _to_unit(maps: Tensor) -> Tensor:
    """Scale each map (N, 1, h, w) from its range to 0..1."""
    least = maps.amin((1, 2, 3), keepdim=True)
    most = maps.amax((1, 2, 3), keepdim=True)
    return (maps - least) / (most - least).clamp(min=1e-12)


def build_iconmatting(
    sd: StableDiffusion,
    checkpoint: Mapping[str, object],
    *,
    name: str,
    device: torch.device,
    precision: torch.dtype,
    options: IconMattingOptions | None = None,
) -> Model:
    """Return IconMatting with the authors' checkpoint of 89 tensors.

    The tensors may be inside Lightning's `state_dict`. `sd` must be on `device` in `precision`.
    Raises ModelError if the checkpoint does not fit.
    """
    net = IconMattingNet.from_checkpoint(
        checkpoint,
        f"model {name!r}",
        feature_channels=sd.channels,
        cells=(sd.coarse_cells, sd.fine_cells),
    )
    net.to(device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's own annotations
    options = options or IconMattingOptions()
    decoder = TrainedDecoder(net, is_plain=options.fit != "letterbox")
    return _build(sd, decoder, name, device, precision, options)


def build_iconmatting_free(
    sd: StableDiffusion,
    finish_alpha: FinishAlpha,
    *,
    name: str,
    device: torch.device,
    precision: torch.dtype,
    options: IconMattingOptions | None = None,
) -> Model:
    """Return IconMatting with Stable Diffusion alone.

    `finish_alpha` makes alpha from an image and a trimap, both at full size.
    """
    return _build(sd, TrainingFreeDecoder(finish_alpha), name, device, precision, options)


def _build(
    sd: StableDiffusion,
    decoder: Decoder,
    name: str,
    device: torch.device,
    precision: torch.dtype,
    options: IconMattingOptions | None,
) -> IconMattingModel:
    options = options or IconMattingOptions()
    if sd.device.type != device.type or sd.dtype != precision:
        raise ValueError(
            f"Stable Diffusion is on {sd.device} in {sd.dtype}, not on {device} in {precision}"
        )
    used = sd.compiled() if options.compile else sd
    return IconMattingModel(
        used, decoder, name, device, precision, options, BatchLimit(options.at_once)
    )
