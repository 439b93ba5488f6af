"""`sam2`: SAM 2.1 (Ravi et al., ICLR 2025) follows the object, ViTMatte mattes its edge.

`Sam2VideoModel` of transformers is given one frame at a time. What it keeps of a frame is thrown away as soon as no
later frame can look at it, so that memory does not grow with the clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.baselines.images import inference, normalised, resized
from vidmatte.model.baselines.mask import BAND, FinishAlpha, check_band, matte_mask
from vidmatte.model.baselines.prompts import PointPrompt, check_points, point_prompt
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference

_OBJECT = 1
"""The number of the only object of a session."""
_BOX_LABELS = (2, 3)
"""How the prompt encoder is told the two corners of a box, among the labels of points."""
_NOWHERE = -1
"""Stands for the start of a tracker that began at no frame of the clip."""


@dataclass(frozen=True)
class Sam2Options:
    """Settings of `sam2`."""

    points: int = 16
    """Most points of the object, and of the background, that are taken of a reference."""
    band: float = BAND
    """Half-width of the unknown band around a mask, as a share of the image's longer side."""

    def __post_init__(self) -> None:
        check_band(self.band)
        check_points(self.points)


@dataclass(frozen=True)
class Remembered:
    """A reference as later frames look at it."""

    frame: int | None
    """Its index in the clip; None for another image."""
    memory: Mapping[str, Any]
    """What the network keeps of a frame that was marked."""
    coarse: CoarseMatte
    """The matte of the frame itself."""


@dataclass(frozen=True)
class Sam2Model:
    """A loaded SAM 2.1 and what makes alpha of an image and a trimap."""

    net: nn.Module
    finish_alpha: FinishAlpha
    options: Sam2Options
    name: str
    device: torch.device
    precision: torch.dtype

    def with_reference(self, references: Sequence[Reference]) -> Sam2Predictor:
        """Each reference is looked at once; later frames look back at all of them."""
        if not references:
            raise ValueError("at least one reference is needed")
        return Sam2Predictor(self, tuple(self._remember(reference) for reference in references))

    def picture(self, rgb: Tensor) -> Tensor:
        """(1, 3, S, S) uint8 of a frame (1, 3, H, W) 0-1, stretched to the network's square."""
        side: int = self.net.config.image_size  # type: ignore[union-attr,assignment] # of transformers' own classes
        return (resized(rgb.clamp(0, 1), (side, side)).clamp(0, 1) * 255 + 0.5).to(torch.uint8)

    def session(self) -> Any:
        """A new inference session that holds no frame yet, with its one object."""
        from transformers import Sam2VideoInferenceSession

        session = Sam2VideoInferenceSession(inference_device=self.device, dtype=torch.float32)
        session.obj_id_to_idx(_OBJECT)
        return session

    def look(self, session: Any, picture: Tensor, index: int) -> CoarseMatte:
        """Matte of a picture as frame `index` of a session, which then forgets what no frame after it looks at."""
        side = picture.shape[-1]
        with inference(self.device, self.precision, f"SAM 2.1 on {side}x{side} pixels"):
            image = normalised(picture.to(self.device).float() / 255)
            seen = self.net(inference_session=session, frame=image, frame_idx=index)
            mask = seen.pred_masks[0, 0].float().sigmoid().cpu().clone()
            confidence = float(seen.object_score_logits.float().sigmoid().max())
        self._forget(session, index)
        return CoarseMatte(mask, confidence)

    def _forget(self, session: Any, index: int) -> None:
        session.processed_frames.clear()
        session.cache.clear_all()
        config: Any = self.net.config
        kept = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        outputs, tracked = session.output_dict_per_obj[0]["non_cond_frame_outputs"], session.frames_tracked_per_obj[0]
        for memories in (outputs, tracked):
            for old in [k for k in memories if k <= index - kept]:
                del memories[old]
        for output in session.output_dict_per_obj[0].values():
            if index in output:
                # Only memory was made of it, and it is by far the largest.
                output[index].pop("high_res_masks", None)
                # It is rounded to bfloat16, which does not go together with float16.
                output[index]["maskmem_features"] = output[index]["maskmem_features"].float()

    def _remember(self, reference: Reference) -> Remembered:
        session = self.session()
        if reference.is_complete:
            side: int = self.net.config.image_size  # type: ignore[union-attr,assignment]
            mask = (resized(reference.alpha, (side, side)) > 0.5).float()
            session.add_mask_inputs(0, 0, mask)
        else:
            session.add_point_inputs(0, 0, self._points(point_prompt(reference, most=self.options.points)))
        session.obj_with_new_inputs = [_OBJECT]
        coarse = self.look(session, self.picture(reference.rgb), 0)
        memory = session.output_dict_per_obj[0]["cond_frame_outputs"][0]
        if reference.is_complete:
            # The mask is what the artist wants: on its own frame it holds, in full.
            coarse = CoarseMatte(reference.roi[0, 0], 1.0)
        return Remembered(reference.frame, dict(memory), coarse)

    def _points(self, prompt: PointPrompt) -> dict[str, Tensor]:
        points, labels = prompt.points, prompt.labels
        if prompt.box is not None:
            points = np.concatenate([np.array(prompt.box, np.float32).reshape(2, 2), points])
            labels = np.concatenate([np.array(_BOX_LABELS), labels])
        side: int = self.net.config.image_size  # type: ignore[union-attr,assignment]
        return {
            "point_coords": torch.from_numpy(points * np.float32(side))[None, None],
            "point_labels": torch.from_numpy(labels.astype(np.int32))[None, None],
        }


@dataclass(frozen=True)
class Sam2Predictor:
    """`sam2` with its references encoded."""

    model: Sam2Model
    references: tuple[Remembered, ...]

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Mattes of independent images: each looks at the references alone. A marked image has its own matte."""
        marked = {reference.frame: reference.coarse for reference in self.references}
        found = []
        for i, index in enumerate(batch.frames):
            known = marked.get(index)
            rgb = batch.rgb[i : i + 1]
            found.append(known if known is not None else Sam2Follower(self, None).step(self.shrink(rgb)))
        alphas = [self.finish(batch.rgb[i : i + 1], coarse) for i, coarse in enumerate(found)]
        return MatteBatch(batch, torch.cat(alphas), tuple(coarse.confidence for coarse in found))

    def tracker(self) -> Sam2Follower:
        """A new tracker for consecutive frames."""
        return Sam2Follower(self, None)

    def shrink(self, rgb: Tensor) -> Tensor:
        """See `Sam2Model.picture`."""
        return self.model.picture(rgb)

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Alpha (1, 1, H, W) at full size from the mask of the whole frame."""
        return matte_mask(rgb, coarse.alpha, self.model.finish_alpha, self.model.options.band)


class Sam2Follower:
    """Follows frames in one direction, counting them on from where it started.

    Every reference counts as seen before: a correction on a later frame helps from the first frame on, in both
    directions. Those of the clip lie as far back as they are away from the start, other images farther still.
    """

    def __init__(self, predictor: Sam2Predictor, start: int | None) -> None:
        self._predictor = predictor
        self._session: Any = None
        self._next = 0
        self._begin(start)

    def start(self, reference: Reference) -> CoarseMatte:
        """Begin at a reference frame, with the mask that was marked there."""
        self._begin(reference.frame)
        return next(known.coarse for known in self._predictor.references if known.frame == reference.frame)

    def step(self, small: Tensor) -> CoarseMatte:
        """Matte of the next frame; see `Sam2Model.picture`."""
        coarse = self._predictor.model.look(self._session, small, self._next)
        self._next += 1
        return coarse

    def state(self) -> dict[str, Tensor]:
        """Where it started, how far it came, and what it keeps of the frames that later ones look at."""
        kept = self._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        memories = {
            f"kept.{index}.{name}": value.cpu().clone()
            for index, output in kept.items()
            for name, value in output.items()
            if isinstance(value, Tensor)
        }
        start = _NOWHERE if self._start is None else self._start
        return {"start": torch.tensor(start), "next": torch.tensor(self._next), **memories}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what another tracker did."""
        start = int(state["start"])
        self._begin(None if start == _NOWHERE else start)
        self._next = int(state["next"])
        kept = self._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        for key, value in state.items():
            if key.startswith("kept."):
                _, index, name = key.split(".")
                kept.setdefault(int(index), {})[name] = value.to(self._predictor.model.device)
                self._session.frames_tracked_per_obj[0][int(index)] = {"reverse": False}

    def _begin(self, start: int | None) -> None:
        self._start = start
        self._session = self._predictor.model.session()
        memories = self._session.output_dict_per_obj[0]["cond_frame_outputs"]
        farthest = 1 + max((known.frame or 0 for known in self._predictor.references), default=0)
        for number, known in enumerate(self._predictor.references):
            away = abs(known.frame - (start or 0)) if known.frame is not None else farthest + number
            place = -away if start is not None else -away - 1
            while place in memories:
                place -= 1
            memories[place] = dict(known.memory)
        self._next = 1 if start is not None else 0
