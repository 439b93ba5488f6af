"""The embedded model behind the one interface: references, images, clips, alpha at full size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.imaging.area import shrink_planes
from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.model.compact.cycle import CycleCheck, expected_overlap
from vidmatte.model.compact.exact_mask import with_exact_mask
from vidmatte.model.compact.inference import WindowModel, coarse_matte
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.reference import (
    EncodedReference,
    encode_known,
    encode_reference,
)
from vidmatte.model.compact.refine import Refiner, refine
from vidmatte.model.compact.tracker import CompactTracker, match_anywhere
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference


@dataclass(frozen=True)
class CompactModel(WindowModel):
    """`compact`: a small in-context matting network; see `net.py` for its blocks.

    Attributes:
        refiner: brings a coarse matte to the size of its image.
        name: the name as given by the user.
    """

    refiner: Refiner
    name: str

    def with_reference(self, references: Sequence[Reference]) -> CompactPredictor:
        """Encode the references; see `encode_reference` for partly marked ones."""
        if not references:
            raise ValueError("at least one reference is needed")
        encoded = tuple(encode_reference(self, reference) for reference in references)
        return CompactPredictor(self, encoded)

    def encode(
        self, reference: Reference, *, after: EncodedReference | None = None
    ) -> EncodedReference:
        """Encode one reference, for predictors composed by hand."""
        return encode_reference(self, reference, after=after)

    def with_encoded(self, references: Sequence[EncodedReference]) -> CompactPredictor:
        """See `SupportsEncodedReferences.with_encoded`."""
        return CompactPredictor(self, tuple(references))

    def refine(self, rgb: Pixels, alpha: Alpha, small: Pixels | None = None) -> Alpha:
        """Return the alpha (H, W) of an image (3, H, W) 0-1 from its coarse matte (h, w).

        `small` is the image at the size of its matte, see `refine`.
        """
        with self._inference():
            return refine(self.refiner, rgb, alpha, self.device, small)


@dataclass(frozen=True)
class CompactPredictor:
    """`compact` with its references encoded."""

    model: CompactModel
    references: tuple[EncodedReference, ...]

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Matte independent images; a marked image has its matte from its prompt."""
        memories = [reference.memory for reference in self.references]
        marked = {reference.frame: reference for reference in self.references}
        alphas: list[Tensor] = []
        confidence: list[float] = []
        for i, index in enumerate(batch.frames):
            rgb = batch.rgb[i : i + 1]
            reference = marked.get(index)
            if reference is not None:
                matte = reference.coarse(self.model)
            else:
                small = self.shrink(rgb)
                frame = small.numpy()
                window, answer = match_anywhere(self.model, frame, memories)
                height, width = frame.shape[:2]
                agreement = max(check.agreement(answer.memory) for check in self._checks)
                overlap = expected_overlap(agreement, answer.confidence)
                alpha = self.model.corrected(small, window, answer.alpha)
                matte = coarse_matte(alpha, overlap, window, height, width)
            masked = self.finish_masked(rgb, index)
            alphas.append(self.finish(rgb, matte) if masked is None else masked)
            confidence.append(matte.confidence)
        return MatteBatch(batch, torch.cat(alphas), tuple(confidence))

    @cached_property
    def _checks(self) -> tuple[CycleCheck, ...]:
        return tuple(CycleCheck(self.model, reference) for reference in self.references)

    def with_network(self, net: CompactNet) -> CompactPredictor:
        """Return the same references, encoded by another network."""
        model = replace(self.model, net=net)
        # The marked alpha stays; only its encoding depends on the network.
        again = [
            replace(encode_known(model, each.frame, each.marked), mask=each.mask)
            for each in self.references
        ]
        return CompactPredictor(model, tuple(again))

    def adapt(
        self, steps: int, *, on_step: Callable[[int], None] | None = None
    ) -> CompactPredictor:
        """See `SupportsAdaptation.adapt`."""
        # Imported here: adaptation loads the training clips' code, needed by few runs.
        from vidmatte.model.compact.adapt import adapt

        return adapt(self, steps=steps, on_step=on_step)

    def weights(self) -> dict[str, Tensor]:
        """See `SupportsAdaptation.weights`."""
        return dict(self.model.net.state_dict())

    def with_weights(self, weights: Mapping[str, Tensor]) -> CompactPredictor:
        """See `SupportsAdaptation.with_weights`."""
        # A copy: other predictors may share the network.
        net = copy.deepcopy(self.model.net)
        net.load_state_dict(dict(weights))
        return self.with_network(net.eval())

    def tracker(self) -> CompactTracker:
        """Return a new tracker for consecutive frames."""
        return CompactTracker(self.model, self.references)

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the frame (1, 3, H, W) as a tracker takes it, (h, w, 3) uint8."""
        return self.model.shrink(rgb)

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return alpha at full size: refined inside the window, 0 outside; see `refine`."""
        height, width = rgb.shape[-2:]
        rows, columns = coarse.inside(height, width)
        window = rgb[0].numpy()[:, rows, columns]
        size = (coarse.alpha.shape[0], coarse.alpha.shape[1])
        key = ("window", coarse.window, size)
        small = self.model.views.get(key, (rgb,), lambda: shrink_planes(window, size))
        refined = self.model.refine(window, coarse.alpha.numpy(), small)
        if refined.shape != (height, width):
            alpha = np.zeros((height, width), np.float32)
            alpha[rows, columns] = refined
            refined = alpha
        return torch.from_numpy(refined)[None, None]

    def finish_masked(self, rgb: Tensor, frame: int) -> Tensor | None:
        """See `SupportsMaskedFrames.finish_masked`."""
        for reference in self.references:
            if reference.frame == frame and reference.mask is not None:
                found = self.finish(rgb, reference.coarse(self.model))
                both = with_exact_mask(found[0, 0].numpy(), reference.mask[0, 0].numpy())
                return torch.from_numpy(both)[None, None]
        return None
