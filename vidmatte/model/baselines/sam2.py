"""`sam2` and `edgetam`: a video segmenter propagates the object, then its edge is matted.

SAM 2.1 (Ravi et al., ICLR 2025) and its small variant EdgeTAM (Zhou et al., CVPR 2025) have the
same interface in transformers: `Sam2VideoModel` and `EdgeTamVideoModel`. Both are given one frame
at a time. The memory of a frame is dropped as soon as no later frame can attend to it, so
memory use does not grow with the length of the clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.baselines.clicks import (
    Answer,
    Marking,
    SeenImage,
    continued,
    expecting,
    masks_of,
    nested,
    points_for,
    prompts_of,
)
from vidmatte.model.baselines.images import inference, normalised, resized
from vidmatte.model.baselines.mask import BAND, FinishAlpha, check_band, matte_mask
from vidmatte.model.baselines.prompts import PointPrompt, check_points
from vidmatte.model.interface import CoarseMatte
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Mark, Reference

# The number of the only object of a session.
_OBJECT = 1
# Stands in a saved state for a tracker that did not start at a frame of the clip.
_NO_START = -1


@dataclass(frozen=True)
class Sam2Options:
    """Settings of `sam2` and `edgetam`."""

    points: int = 16
    """Largest number of points of the object, and of the background, taken from a reference."""
    band: float = BAND
    """Half-width of the unknown band around a mask, as a share of the image's longer side."""

    def __post_init__(self) -> None:
        check_band(self.band)
        check_points(self.points)


@dataclass(frozen=True)
class Segmenter:
    """Names of a video segmenter."""

    title: str
    """For messages."""
    session: str
    """Class of its inference sessions in transformers."""


SAM2_SEGMENTER = Segmenter("SAM 2.1", "Sam2VideoInferenceSession")
EDGETAM_SEGMENTER = Segmenter("EdgeTAM", "EdgeTamVideoInferenceSession")


@dataclass(frozen=True)
class EncodedReference:
    """A reference as later frames attend to it."""

    frame: int | None
    """Its index in the clip; None for another image."""
    memory: Mapping[str, Any]
    """The network's memory of a marked frame."""
    coarse: CoarseMatte
    """The matte of the reference itself."""
    extents: tuple[Extent, ...] = ("object",)
    """What its marks may mean, smallest first; see `EncodedMarks.extents`."""
    extent: Extent = "object"
    """What this answer takes them for."""
    marking: Marking | None = None
    """How its mask was found from marks; None for a mask."""


@dataclass(frozen=True)
class Sam2Model:
    """A loaded video segmenter with the network for the edges of its masks."""

    net: nn.Module
    finish_alpha: FinishAlpha
    options: Sam2Options
    name: str
    device: torch.device
    precision: torch.dtype
    segmenter: Segmenter = SAM2_SEGMENTER

    def with_reference(self, references: Sequence[Reference]) -> Sam2Predictor:
        """Encode each reference once; later frames attend to all of them."""
        if not references:
            raise ValueError("at least one reference is needed")
        return self.with_encoded([self.encode(reference) for reference in references])

    def with_encoded(self, references: Sequence[EncodedReference]) -> Sam2Predictor:
        """See `SupportsEncodedReferences.with_encoded`."""
        return Sam2Predictor(self, tuple(references))

    @property
    def _side(self) -> int:
        """Side, in pixels, of the network's square image."""
        config: Any = self.net.config
        return int(config.image_size)

    def picture(self, rgb: Tensor) -> Tensor:
        """Return a frame (1, 3, H, W) 0-1 as uint8 (1, 3, S, S), stretched to a square."""
        # A square without regard to the aspect, as the network was trained.
        square = resized(rgb.clamp(0, 1), (self._side, self._side)).clamp(0, 1)
        return (square * 255 + 0.5).to(torch.uint8)

    def session(self) -> Any:
        """Return a new inference session with one object and no frame."""
        import transformers

        session_class = getattr(transformers, self.segmenter.session)
        # Sessions keep their tensors in this type; autocast lowers it inside the network.
        session = session_class(inference_device=self.device, dtype=torch.float32)
        session.obj_id_to_idx(_OBJECT)
        return session

    def segment(self, session: Any, picture: Tensor, index: int) -> CoarseMatte:
        """Return the matte of a picture as frame `index` of a session.

        The session then drops everything without use for later frames.
        """
        side = picture.shape[-1]
        with inference(
            self.device, self.precision, f"{self.segmenter.title} on {side}x{side} pixels"
        ):
            image = normalised(picture.to(self.device).float() / 255)
            output = self.net(inference_session=session, frame=image, frame_idx=index)
            mask = output.pred_masks[0, 0].float().sigmoid().cpu().clone()
            confidence = float(output.object_score_logits.float().sigmoid().max())
        self._drop_old_memory(session, index)
        return CoarseMatte(mask, confidence)

    def _drop_old_memory(self, session: Any, index: int) -> None:
        # Features of frames are computed once and never used again here.
        session.processed_frames.clear()
        session.cache.clear_all()
        config: Any = self.net.config
        # The farthest frame that memory attention or object pointers can reach.
        kept = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        outputs = session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        tracked = session.frames_tracked_per_obj[0]
        for memories in (outputs, tracked):
            for old in [k for k in memories if k <= index - kept]:
                del memories[old]
        for output in session.output_dict_per_obj[0].values():
            if index in output:
                # Only used to encode the memory, and by far the largest tensor (SAM 2.1 only).
                output[index].pop("high_res_masks", None)
                # The network rounds it to bfloat16, which cannot be mixed with float16.
                output[index]["maskmem_features"] = output[index]["maskmem_features"].float()

    def encode(
        self, reference: Reference, *, after: EncodedReference | None = None
    ) -> EncodedReference:
        """Encode one reference; its marks are answered one after the other.

        A single point has up to three answers, of which `Reference.extent` chooses one: the network
        makes three masks of it. Each further mark corrects the answer. `after` saves the encoding
        of the image and the answers to the marks that both begin with.
        """
        picture = self.picture(reference.rgb)
        if reference.is_complete:
            mask = (resized(reference.alpha, (self._side, self._side)) > 0.5).float()
            _, memory = self._of_mask(self._see(picture), mask)
            # A given mask is final on its own frame, at full resolution.
            return EncodedReference(reference.frame, memory, CoarseMatte(reference.roi[0, 0], 1.0))
        before = None if after is None else after.marking
        image, answer = continued(before, reference, picture)
        image = image or self._see(picture)
        done = 0 if answer is None else len(answer.marks)
        for marks, prompt in prompts_of(reference, done=done, most=self.options.points):
            answer = self._answer(image, marks, prompt, answer, reference.extent)
        assert answer is not None  # a prompt marks the object, or is a box
        coarse = CoarseMatte(answer.logits.sigmoid().cpu().clone(), answer.score)
        marking = Marking(image, answer, reference.extent)
        return EncodedReference(
            reference.frame, answer.memory, coarse, answer.extents, answer.extent, marking
        )

    def _see(self, picture: Tensor) -> SeenImage:
        """Encode a picture of `picture`."""
        side = picture.shape[-1]
        with inference(
            self.device, self.precision, f"{self.segmenter.title} on {side}x{side} pixels"
        ):
            image = normalised(picture.to(self.device).float() / 255)
            net: Any = self.net
            seen = net.get_image_features(image, return_dict=True)
        features = {
            "vision_feats": seen.fpn_hidden_states,
            "vision_pos_embeds": seen.fpn_position_encoding,
        }
        return SeenImage(picture, features)

    def _answer(
        self,
        image: SeenImage,
        marks: tuple[Mark, ...],
        prompt: PointPrompt,
        last: Answer | None,
        extent: Extent | None,
    ) -> Answer:
        """Return the answer to a prompt, from the answer to its first marks if there is one."""
        session = self._session_of(image)
        last_logits = None if last is None else last.logits
        session.add_point_inputs(0, 0, points_for(prompt, self._side))
        with masks_of(self.net) as found, expecting(self.net, last_logits):
            self.segment(session, image.picture, 0)
        masks, scores = found[-1]
        offered = nested(masks, scores)
        chosen = extent if extent in offered else "object"
        place = offered[chosen]
        score = float(scores[place].clamp(0, 1))
        memory = self._memory(session)
        if chosen != "object":
            # The memory has to be of the chosen mask, so that later frames follow it.
            whole = resized(masks[place][None, None], (self._side, self._side))
            _, memory = self._of_mask(image, (whole > 0).float())
        answer = Answer(marks, masks[place], score, memory, tuple(offered), chosen)
        if last is None:
            return answer
        # What the first mark meant was settled by its own answer.
        return replace(answer, extents=last.extents, extent=last.extent)

    def _of_mask(self, image: SeenImage, mask: Tensor) -> tuple[CoarseMatte, dict[str, Any]]:
        """Return the matte and the memory of an image whose mask (1, 1, S, S) 0/1 is known."""
        session = self._session_of(image)
        session.add_mask_inputs(0, 0, mask)
        return self.segment(session, image.picture, 0), self._memory(session)

    def _session_of(self, image: SeenImage) -> Any:
        """Return a session whose frame 0 is an image that is encoded already, to be prompted."""
        # The reference is frame 0 of a session of its own, from which its memory is taken.
        session = self.session()
        session.cache.cache_vision_features(0, dict(image.features))
        session.obj_with_new_inputs = [_OBJECT]
        return session

    @staticmethod
    def _memory(session: Any) -> dict[str, Any]:
        return dict(session.output_dict_per_obj[0]["cond_frame_outputs"][0])


@dataclass(frozen=True)
class Sam2Predictor:
    """A video segmenter with its references encoded."""

    model: Sam2Model
    references: tuple[EncodedReference, ...]

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Return mattes of independent images: each attends to the references alone.

        A marked image keeps the matte of its reference.
        """
        marked = {reference.frame: reference.coarse for reference in self.references}
        found: list[CoarseMatte] = []
        for i, index in enumerate(batch.frames):
            coarse = marked.get(index)
            if coarse is None:
                # A tracker without a start matches one frame with all references.
                coarse = Sam2Tracker(self, None).step(self.shrink(batch.rgb[i : i + 1]))
            found.append(coarse)
        alphas = [self.finish(batch.rgb[i : i + 1], coarse) for i, coarse in enumerate(found)]
        return MatteBatch(batch, torch.cat(alphas), tuple(coarse.confidence for coarse in found))

    def tracker(self) -> Sam2Tracker:
        """Return a new tracker for consecutive frames."""
        return Sam2Tracker(self, None)

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the square picture of a frame, see `Sam2Model.picture`."""
        return self.model.picture(rgb)

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return alpha (1, 1, H, W) at full size from the mask of the whole frame."""
        return matte_mask(rgb, coarse.alpha, self.model.finish_alpha, self.model.options.band)


class Sam2Tracker:
    """Tracks the object through one pass; frames are counted from its start.

    Every reference counts as an earlier frame, so a correction on a later frame helps from
    the first frame on, in both directions. The references of the clip are placed as far back as
    they are away from the start; other images are placed farther back.
    """

    def __init__(self, predictor: Sam2Predictor, start: int | None) -> None:
        self._predictor = predictor
        self._session: Any = None
        self._next = 0
        self._begin(start)

    def start(self, reference: Reference) -> CoarseMatte:
        """Begin at a reference frame and return its matte."""
        self._begin(reference.frame)
        known = self._predictor.references
        return next(found.coarse for found in known if found.frame == reference.frame)

    def step(self, small: Tensor) -> CoarseMatte:
        """Return the matte of the next frame, given as `Sam2Predictor.shrink` makes it."""
        coarse = self._predictor.model.segment(self._session, small, self._next)
        self._next += 1
        return coarse

    def state(self) -> dict[str, Tensor]:
        """Return the start, the position and the memory of all frames needed by later ones."""
        memories: dict[str, Tensor] = {}
        for index, output in self._frame_memories().items():
            for name, value in output.items():
                if isinstance(value, Tensor):
                    memories[f"kept.{index}.{name}"] = value.cpu().clone()
        start = _NO_START if self._start is None else self._start
        return {"start": torch.tensor(start), "next": torch.tensor(self._next), **memories}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of another tracker of the same predictor."""
        start = int(state["start"])
        self._begin(None if start == _NO_START else start)
        self._next = int(state["next"])
        memories = self._frame_memories()
        for key, value in state.items():
            if not key.startswith("kept."):
                continue
            _, index, name = key.split(".")
            frame = memories.setdefault(int(index), {})
            frame[name] = value.to(self._predictor.model.device)
            # The session keeps the direction of every tracked frame.
            self._session.frames_tracked_per_obj[0][int(index)] = {"reverse": False}

    def _frame_memories(self) -> dict[int, dict[str, Any]]:
        """Memory of the tracked frames, by index; the references are separate."""
        memories: dict[int, dict[str, Any]]
        memories = self._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        return memories

    def _begin(self, start: int | None) -> None:
        self._start = start
        self._session = self._predictor.model.session()
        memories = self._session.output_dict_per_obj[0]["cond_frame_outputs"]
        references = self._predictor.references
        farthest = 1 + max((known.frame or 0 for known in references), default=0)
        for number, known in enumerate(references):
            # References from other images are farther away than any frame of the clip.
            away = farthest + number
            if known.frame is not None:
                away = abs(known.frame - (start or 0))
            # Without a start no reference is the current frame: all move back by one.
            place = -away if start is not None else -away - 1
            # Two references may be equally far away; each needs its own place.
            while place in memories:
                place -= 1
            memories[place] = dict(known.memory)
        self._next = 1 if start is not None else 0
