"""The plan of a measurement: marks, reference images, and counted pixels and frames."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from vidmatte.datasets import Clip, CountedFrame, CountedRegion, Dataset, Group
from vidmatte.errors import OptionError, ReadError
from vidmatte.evaluate.measures import ConnKind

PromptKind = Literal["mask", "points", "scribble", "trimap"]
Guidance = Literal["group", "each"]
Region: TypeAlias = CountedRegion
Rng: TypeAlias = np.random.Generator
PAPER_SIDE = 768
"""Side, in pixels, of the squares of the research code of "In-Context Matting"."""
_DRAWN: tuple[PromptKind, ...] = ("points", "scribble")
_CHOICES = {
    "prompt": PromptKind,
    "guidance": Guidance,
    "region": Region,
    "conn": ConnKind,
    "first_frame": CountedFrame,
    "last_frame": CountedFrame,
}
_LEAST = {"references": 1, "rounds": 1, "seed": 0, "frames": 1, "squares": 1, "clicks": 1}


@dataclass(frozen=True)
class Protocol:
    """The choices of a measurement, apart from those of the method.

    Guo et al., "In-Context Matting", CVPR 2024, section 4.2: references are fixed per group, and
    three rounds averaged.
    """

    prompt: PromptKind = "mask"
    """Kind of marks on a reference, made from its truth; see `evaluate.prompts.draw_reference`."""
    guidance: Guidance | None = None
    """"group": references stand for the other images of their group (in-context matting); "each":
    every image is marked itself (the paper's rows "Ours*"). None is "group", but "each" for
    trimaps and if all groups have one image."""
    references: int = 1
    """Number of marked images of a group, or of frames of a clip, spread evenly from the first."""
    rounds: int = 3
    """Number of times to draw everything random: marks, and the noise of models."""
    seed: int = 0
    """Round k draws with seed + k."""
    draw_references: bool = False
    """Whether each round has references of its own, instead of the same ones in all rounds."""
    region: Region | None = None
    """Pixels of images for errors; None is the data set's own choice."""
    frames: int | None = None
    """How many frames of each clip are used, from the first on; None for all."""
    kept_out: int = 0
    """Images of a group that do not count, at least, to make runs with more and fewer references
    compare."""
    conn: ConnKind = "benchmark"
    """Definition of Conn."""
    squares: int | None = None
    """Side of the middle squares of images, cut before anything else, as by the
    research code; None for whole images."""
    first_frame: CountedFrame | None = None
    """Whether the marked first frame of a clip counts; None is the data set's choice."""
    last_frame: CountedFrame | None = None
    """Whether the last frame of a clip counts; None is the data set's choice."""
    usual_prompts: bool = False
    """Whether, instead of clicks one by one, each image is marked in the usual ways (see
    `evaluate.usual_prompts`)."""
    clicks: int | None = None
    """Largest number of clicks of the interactive protocol (see `evaluate.clicks`), in which each
    image is marked itself; None for any other measurement."""

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value = getattr(self, name)
            # Only these two have a default of their own.
            is_unset = value is None and name not in ("prompt", "conn")
            if not is_unset and value not in get_args(kind):
                offered = ", ".join(get_args(kind))
                raise OptionError(f"{name} {value!r} is not valid: choose one of {offered}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} {value} is not valid: it must be at least {least}")
        if self.prompt == "trimap" and self.guidance == "group":
            raise OptionError(
                "a trimap tells of its own image only: leave out guidance 'group', or use another "
                "prompt"
            )

    @classmethod
    def paper(cls, **choices: Any) -> Protocol:
        """Return the protocol of "In-Context Matting" and its research code.

        Images are cut to squares of 768 pixels from their middle, errors are taken over the whole
        square unless `region` says otherwise, Conn is the research code's, and a mask is wherever
        the truth is above 0.
        """
        own = {"squares": PAPER_SIDE, "conn": "research", "region": "whole"}
        return cls(**{**own, **choices})

    @property
    def marks_each(self) -> bool:
        """Whether each image is marked by itself, in the ways of interactive tools."""
        return self.clicks is not None or self.usual_prompts

    @property
    def draws_marks(self) -> bool:
        """Whether rounds differ by their marks or references."""
        return not self.marks_each and (self.prompt in _DRAWN or self.draw_references)

    def as_json(self) -> dict[str, Any]:
        """Return the choices by name."""
        return asdict(self)


@dataclass(frozen=True)
class WorkItem:
    """A part to matte in one go: a group with its references drawn, or a clip."""

    index: int
    """Of the group or the clip in its data set."""
    round: int
    references: tuple[int, ...]
    """Indices of marked images or frames."""
    targets: tuple[int, ...]
    """Indices of counted images or frames."""

    @property
    def key(self) -> str:
        """Its name in a journal."""
        return f"{self.round}/{self.index}"


@dataclass(frozen=True)
class Plan:
    """All parts, in the order of the tables."""

    dataset: Dataset
    protocol: Protocol
    guidance: Guidance
    region: Region
    parts: tuple[WorkItem, ...]
    notes: tuple[str, ...]
    """Notes for readers of the table."""
    counts_first_frame: bool = False
    """Whether the marked first frame of clips counts."""

    @property
    def samples(self) -> int:
        """How many images or clips are measured, all rounds together."""
        if self.dataset.clips and not self.protocol.marks_each:
            return len(self.parts)
        return sum(len(part.targets) for part in self.parts)

    def rng(self, part: WorkItem, sample: str) -> Rng:
        """Return the generator for the marks of a sample; it does not depend on other samples."""
        return _rng(self.protocol.seed + part.round, f"{self._name(part)}/{sample}")

    def _name(self, part: WorkItem) -> str:
        if self.dataset.clips:
            return self.dataset.clips[part.index].name
        return self.dataset.groups[part.index].name


def make_plan(dataset: Dataset, protocol: Protocol, *, rounds: int) -> Plan:
    """Draw the references and list the parts of `rounds` rounds.

    Raises:
        ReadError: If a group has one image, and others were to be matted from it.
        OptionError: If choices do not fit the data set.
    """
    if protocol.marks_each:
        return _plan_of_clicks(dataset, protocol)
    if dataset.clips:
        return _plan_of_clips(dataset, protocol, rounds)
    _refuse_unused(dataset, protocol, "images", ("frames", "first_frame", "last_frame"))
    guidance = _guidance(dataset, protocol)
    region = _region(dataset, protocol)
    notes = list(_notes_of_images(dataset, protocol, region))
    if guidance == "each":
        parts = _each_image(dataset, rounds)
        return Plan(
            dataset, protocol, guidance, region, parts, ("every image is marked itself", *notes)
        )
    # Runs with 1 and 4 references are measured on the same images.
    kept_out = max(protocol.kept_out, protocol.references)
    large = []
    for index, group in enumerate(dataset.groups):
        if _is_large_enough(group, dataset, kept_out):
            large.append(index)
    if not large:
        raise OptionError(
            f"expected groups of more than {kept_out} images for {kept_out} references, found none "
            f"in {dataset.name}; use fewer references"
        )
    parts = tuple(
        _part(index, number, dataset.groups[index], protocol, kept_out)
        for number in range(rounds)
        for index in large
    )
    left = len(dataset.groups) - len(large)
    if left:
        # In front, since it changes the meaning of every figure.
        notes.insert(0, f"groups of at most {kept_out} images are left out: {left}")
    return Plan(dataset, protocol, guidance, region, parts, tuple(notes))


def _refuse_unused(dataset: Dataset, protocol: Protocol, held: str, names: tuple[str, ...]) -> None:
    """Raise OptionError for a choice without a meaning for the data set."""
    for name in names:
        if getattr(protocol, name):
            value = getattr(protocol, name)
            raise OptionError(
                f"{name.replace('_', ' ')} {value!r} was given, but {dataset.name} holds {held}; "
                f"leave it out"
            )


def _notes_of_images(dataset: Dataset, protocol: Protocol, region: Region) -> Iterator[str]:
    has_trimaps = all(sample.trimap is not None for sample in _samples(dataset))
    if region == "whole" and has_trimaps and protocol.region is None:
        yield "there are trimaps: --region unknown takes errors over their unknown area only"
    if protocol.squares is not None:
        yield (
            f"images are cut to squares of {protocol.squares} pixels from their middle, by "
            f"bilinear interpolation (the research code draws one of four)"
        )


def _samples(dataset: Dataset) -> Iterator[Any]:
    for group in dataset.groups:
        yield from group.images


def _each_image(dataset: Dataset, rounds: int) -> tuple[WorkItem, ...]:
    parts = []
    for number in range(rounds):
        for index, group in enumerate(dataset.groups):
            parts.append(WorkItem(index, number, (), tuple(range(len(group.images)))))
    return tuple(parts)


def _part(index: int, number: int, group: Group, protocol: Protocol, kept_out: int) -> WorkItem:
    seed = protocol.seed + (number if protocol.draw_references else 0)
    # The first in a random order are the references, those behind `kept_out` the targets.
    order = _rng(seed, group.name).permutation(len(group.images)).tolist()
    return WorkItem(
        index, number, tuple(order[: protocol.references]), tuple(sorted(order[kept_out:]))
    )


def _plan_of_clicks(dataset: Dataset, protocol: Protocol) -> Plan:
    """Plan every image, or the first and middle frames of clips; nothing is drawn."""
    unused = ("guidance", "region", "draw_references", "squares", "frames")
    _refuse_unused(dataset, protocol, "images that are clicked", unused)
    if not dataset.clips:
        parts = _each_image(dataset, 1)
        return Plan(dataset, protocol, "each", "whole", parts, ())
    clips = []
    for index, clip in enumerate(dataset.clips):
        there = clip.frames_with_truth
        # A clip with one truth has one frame.
        targets = tuple(dict.fromkeys((there[0], there[len(there) // 2])))
        clips.append(WorkItem(index, 0, (), targets))
    how = "marked" if protocol.usual_prompts else "clicked"
    notes = (f"the first and middle frames of each clip are {how}, each by itself",)
    return Plan(dataset, protocol, "each", "whole", tuple(clips), notes)


def _plan_of_clips(dataset: Dataset, protocol: Protocol, rounds: int) -> Plan:
    unused = ("guidance", "region", "draw_references", "squares")
    _refuse_unused(dataset, protocol, "clips", unused)
    counts_first = (protocol.first_frame or dataset.first_frame) == "count"
    parts = []
    for number in range(rounds):
        for index, clip in enumerate(dataset.clips):
            marked, counted = _frames_of(clip, dataset, protocol, counts_first)
            parts.append(WorkItem(index, number, marked, counted))
    guidance: Guidance = "each" if protocol.prompt == "trimap" else "group"
    notes = tuple(_notes_of_clips(dataset, protocol, counts_first))
    return Plan(dataset, protocol, guidance, "whole", tuple(parts), notes, counts_first)


def _frames_of(
    clip: Clip, dataset: Dataset, protocol: Protocol, counts_first: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the marked frames of a clip, and the counted ones."""
    # A clip may be shorter.
    used = min(len(clip.frames), protocol.frames or len(clip.frames))
    there = [frame for frame in clip.frames_with_truth if frame < used]
    if not there:
        raise OptionError(f"{clip.name}: no truth in its first {used} frames; use more --frames")
    marked: tuple[int, ...] = ()
    if protocol.prompt != "trimap":
        # Evenly from the first; few truths may give a frame twice.
        spread = (len(there) * n // protocol.references for n in range(protocol.references))
        marked = tuple(dict.fromkeys(there[place] for place in spread))
    # A marked frame says little about the method.
    skipped = set(marked)
    if counts_first:
        # Published scripts count it.
        skipped.discard(0)
    elif protocol.first_frame == "skip":
        skipped.add(0)
    if (protocol.last_frame or dataset.last_frame) == "skip":
        skipped.add(len(clip.frames) - 1)
    counted = tuple(frame for frame in there if frame not in skipped)
    # Of a single frame it is the marked one that counts.
    return marked, counted or tuple(there[:1])


def _notes_of_clips(dataset: Dataset, protocol: Protocol, counts_first: bool) -> Iterator[str]:
    if protocol.frames is not None:
        many = "frame" if protocol.frames == 1 else f"{protocol.frames} frames"
        yield f"the first {many} of each clip"
    if protocol.prompt == "trimap":
        yield "every frame has a trimap made of its truth"
    elif protocol.frames == 1:
        yield "the marked frame itself counts"
    elif counts_first:
        yield "the marked first frame counts, with a dtSSD of 0, as in the published scripts"
    else:
        yield "the marked first frame does not count"
    if (protocol.last_frame or dataset.last_frame) == "skip":
        yield "the last frame does not count"
    if any(None in clip.alphas for clip in dataset.clips):
        yield "only frames with a truth count; dtSSD is from one of them to the next"
    if any(clip.first_mask for clip in dataset.clips) and protocol.prompt == "mask":
        yield "first masks are those of the data set"


def _guidance(dataset: Dataset, protocol: Protocol) -> Guidance:
    if protocol.guidance is not None:
        return protocol.guidance
    alone = all(len(group.images) == 1 for group in dataset.groups)
    return "each" if alone or protocol.prompt == "trimap" else "group"


def _region(dataset: Dataset, protocol: Protocol) -> Region:
    region = protocol.region or dataset.region
    without = next((s.image for s in _samples(dataset) if s.trimap is None), None)
    if region == "unknown" and without is not None:
        raise OptionError(
            f"{without}: has no trimap, but the errors are to be taken over its unknown area; use "
            f"region 'whole'"
        )
    return region


def _is_large_enough(group: Group, dataset: Dataset, kept_out: int) -> bool:
    if len(group.images) == 1:
        raise ReadError(
            f"{dataset.root}: group {group.name!r} holds one image, {group.images[0].image.name}, "
            f"but a reference needs another image to be matted from it; add one, or have every "
            f"image marked itself (--guidance each)"
        )
    return len(group.images) > kept_out


def _rng(seed: int, name: str) -> Rng:
    # crc32 is the same in every process, hash() is not.
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
