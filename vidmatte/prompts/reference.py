"""Draw references from prompts on frames of a clip, or on another image or clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vidmatte.errors import OptionError
from vidmatte.frames import ColorTags
from vidmatte.imaging.display import to_display
from vidmatte.options import MaskFit
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.read import Video, open_video, parse_position
from vidmatte.read.images import IMAGE_SUFFIXES, read_image
from vidmatte.read.still import STILL


def make_references(
    video: Video,
    prompts: Sequence[Prompt],
    reference: str | Path | None,
    mask_fit: MaskFit = "exact",
) -> tuple[Reference, ...]:
    """Draw the references of prompts.

    Args:
        video: the clip to matte.
        prompts: at least one, each on a frame of its own.
        reference: the marked image or clip; None for `video`.
        mask_fit: what is done with masks and strokes of another size, see `MatteOptions`.

    Raises:
        OptionError: there is no prompt, or two mark one frame.
        PromptError: a mark does not fit its frame.
        ReadError: a frame does not exist.
    """
    if not prompts:
        raise OptionError("nothing is marked: give at least one prompt")
    if reference is None:
        marked = zip(prompts, _frames(video, prompts), strict=True)
        return tuple(_mark(video, prompt, frame, mask_fit, is_own=True) for prompt, frame in marked)
    # A single image is not opened as a clip: its number would count as a frame.
    if Path(reference).is_file() and Path(reference).suffix.lower() in IMAGE_SUFFIXES:
        _refuse_twice([prompt.frame for prompt in prompts])
        image = read_image(Path(reference))
        rgb = torch.from_numpy(image.rgb)[None]
        color = _like(video.info.color, image.color)
        return tuple(prompt.reference(rgb, color=color, mask_fit=mask_fit) for prompt in prompts)
    with open_video(reference) as clip:
        clip.info = replace(clip.info, color=_like(video.info.color, clip.info.color))
        marked = zip(prompts, _frames(clip, prompts), strict=True)
        return tuple(_mark(clip, prompt, frame, mask_fit, is_own=False) for prompt, frame in marked)


def _like(clip: ColorTags, reference: ColorTags) -> ColorTags:
    """Return the tags of a reference in the colour space that was named for the clip.

    Still images made for a display, such as PNG, have their own: they come from elsewhere.
    """
    if clip.space is None or reference == STILL or reference.icc is not None:
        return reference
    return clip


def _frames(video: Video, prompts: Sequence[Prompt]) -> list[int]:
    """Return the index of the frame of each prompt. Raises OptionError if two mark one frame."""
    frames = [
        0 if prompt.frame is None else parse_position(prompt.frame, video) for prompt in prompts
    ]
    _refuse_twice([video.number_of(frame) for frame in frames])
    return frames


def _refuse_twice(frames: Sequence[int | str | None]) -> None:
    twice = [frame for frame in frames if frames.count(frame) > 1]
    if twice:
        place = "the first frame" if twice[0] is None else f"frame {twice[0]}"
        raise OptionError(f"{place} is marked twice: put all marks of a frame into one prompt")


def _mark(
    video: Video, prompt: Prompt, frame: int, mask_fit: MaskFit, *, is_own: bool
) -> Reference:
    """Draw the reference of a prompt; `is_own` says that the clip is the one that is matted."""
    rgb = video.frame(frame).rgb
    display_width = max(1, round(rgb.shape[-1] * video.info.sample_aspect_ratio))
    # Its neighbour in time shows the object's motion to models that use it.
    beside = video.adjacent(frame)
    color = video.info.color
    reference = prompt.reference(
        rgb,
        display_width=display_width,
        frame=frame if is_own else None,
        color=color,
        mask_fit=mask_fit,
        windows=video.info.windows,
    )
    if beside is None:
        return reference
    return replace(reference, adjacent=to_display(beside.rgb, color))
