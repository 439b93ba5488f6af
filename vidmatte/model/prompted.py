"""A model whose marks are answered by another one: that one mattes the marked image, this the rest.

A segmenter such as SAM 2.1 knows whole objects from a single click, and `compact` mattes a clip
well from a whole mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from vidmatte.frames import FrameBatch
from vidmatte.model.interface import EncodedMarks, Model, Predictor, SupportsEncodedReferences
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Reference

_MARKED = 0
"""Index of the marked image where it is matted by itself."""


class PromptModel(SupportsEncodedReferences, Model, Protocol):
    """A model that answers marks, and says what they may mean."""


@dataclass(frozen=True)
class PromptedReference:
    """A reference whose marks were answered by one model, encoded by another.

    Attributes:
        answer: of the model for the marks; None if a mask was given.
        encoded: by the other model, or the complete reference if it encodes them all at once.
    """

    answer: EncodedMarks | None
    encoded: Any

    @property
    def extents(self) -> tuple[Extent, ...]:
        """See `EncodedMarks.extents`."""
        return ("object",) if self.answer is None else self.answer.extents

    @property
    def extent(self) -> Extent:
        """See `EncodedMarks.extent`."""
        return "object" if self.answer is None else self.answer.extent


@dataclass(frozen=True)
class PromptedModel:
    """A model, and another one for the marks of its references."""

    model: Model
    prompt_model: PromptModel

    @property
    def name(self) -> str:
        """The name of the model that mattes."""
        return self.model.name

    @property
    def device(self) -> torch.device:
        """Its device."""
        return self.model.device

    @property
    def precision(self) -> torch.dtype:
        """Its number format."""
        return self.model.precision

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """See `Model.with_reference`."""
        return self.with_encoded([self.encode(reference) for reference in references])

    def encode(
        self, reference: Reference, *, after: PromptedReference | None = None
    ) -> PromptedReference:
        """See `SupportsEncodedReferences.encode`."""
        answer = None
        # A mask or a trimap says what the object is; marks leave it to be found.
        if not (reference.is_complete or reference.is_trimap):
            before = None if after is None else after.answer
            answer = self.prompt_model.encode(replace(reference, frame=_MARKED), after=before)
            reference = self._completed(reference, answer)
        if not isinstance(self.model, SupportsEncodedReferences):
            return PromptedReference(answer, reference)
        return PromptedReference(answer, self.model.encode(reference))

    def _completed(self, reference: Reference, answer: EncodedMarks) -> Reference:
        """Return a reference with the whole matte that an answer to its marks stands for."""
        image = FrameBatch(reference.rgb, (_MARKED,), (_MARKED,), (1,))
        alpha = self.prompt_model.with_encoded([answer])(image).alpha
        known = torch.ones_like(alpha)
        return replace(reference, alpha=alpha, known=known, steps=(), extent=None)

    def with_encoded(self, references: Sequence[PromptedReference]) -> Predictor:
        """See `SupportsEncodedReferences.with_encoded`."""
        encoded = [reference.encoded for reference in references]
        if isinstance(self.model, SupportsEncodedReferences):
            return self.model.with_encoded(encoded)
        return self.model.with_reference(encoded)
