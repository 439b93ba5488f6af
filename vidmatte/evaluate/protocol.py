"""How a system is measured: what is marked, which images are references, and all that is drawn, with its seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from vidmatte.datasets import Clip, Dataset, Group
from vidmatte.errors import OptionError, ReadError

PromptKind = Literal["mask", "points", "scribble", "trimap"]
Guidance = Literal["group", "each"]
Region = Literal["unknown", "whole"]
Rng: TypeAlias = np.random.Generator
_DRAWN: tuple[PromptKind, ...] = ("points", "scribble")


@dataclass(frozen=True)
class Protocol:
    """The choices of a measurement that are not the system's own.

    Guo et al., "In-Context Matting", CVPR 2024, section 4.2: references are fixed per group, and three rounds averaged.
    """

    prompt: PromptKind = "mask"
    """What is marked on a reference, made from its truth; see `evaluate.prompts.draw_reference`."""
    guidance: Guidance | None = None
    """"group": references stand for the other images of their group (in-context matting); "each": every image is marked
    itself (the paper's rows "Ours*"). None is "group", but "each" for trimaps and where all groups have one image."""
    references: int = 1
    """Images of a group, or frames of a clip spread evenly from the first on, that are marked and do not count."""
    rounds: int = 3
    """How often everything drawn is drawn anew: marks, and the noise of models that have some."""
    seed: int = 0
    """Round k draws with seed + k."""
    draw_references: bool = False
    """Whether each round has references of its own, instead of the same ones in all rounds."""
    region: Region | None = None
    """Where errors count: the unknown area of trimaps, or whole images. None: "unknown" where all images have one."""
    frames: int | None = None
    """How many frames of each clip are used, from the first on; None for all."""
    kept_out: int = 0
    """Images of a group that do not count, at least, so that runs with more and fewer references compare."""

    def __post_init__(self) -> None:
        for name, choices in (("prompt", PromptKind), ("guidance", Guidance), ("region", Region)):
            value = getattr(self, name)
            if value not in (*get_args(choices), *([] if name == "prompt" else [None])):
                raise OptionError(
                    f"{name} {value!r} is not valid: choose one of {', '.join(get_args(choices))}"
                )
        for name, least in (("references", 1), ("rounds", 1), ("seed", 0), ("frames", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} {value} is not valid: it must be at least {least}")
        if self.prompt == "trimap" and self.guidance == "group":
            raise OptionError(
                "a trimap tells of its own image only: leave out guidance 'group', or use another prompt"
            )

    @property
    def draws_marks(self) -> bool:
        """Whether rounds differ by their marks or references."""
        return self.prompt in _DRAWN or self.draw_references

    def as_json(self) -> dict[str, Any]:
        """The choices by name."""
        return asdict(self)


@dataclass(frozen=True)
class WorkItem:
    """What is matted in one go: a group with its references drawn, or a clip."""

    index: int
    """Of the group or the clip in its data set."""
    round: int
    references: tuple[int, ...]
    """Indices of images or frames that are marked."""
    targets: tuple[int, ...]
    """Indices of images or frames that count."""

    @property
    def key(self) -> str:
        """By which it is known in a journal."""
        return f"{self.round}/{self.index}"


@dataclass(frozen=True)
class Plan:
    """All that is to be done, in the order of the tables."""

    dataset: Dataset
    protocol: Protocol
    guidance: Guidance
    region: Region
    parts: tuple[WorkItem, ...]
    notes: tuple[str, ...]
    """What a reader of the table should know of it."""

    @property
    def samples(self) -> int:
        """How many images or clips are matted, all rounds together."""
        return (
            len(self.parts) if self.dataset.clips else sum(len(part.targets) for part in self.parts)
        )

    def rng(self, part: WorkItem, sample: str) -> Rng:
        """What marks of a sample are drawn with: the same whatever else is done, and in whatever order."""
        return _rng(self.protocol.seed + part.round, f"{self._name(part)}/{sample}")

    def _name(self, part: WorkItem) -> str:
        return (
            self.dataset.clips[part.index].name
            if self.dataset.clips
            else self.dataset.groups[part.index].name
        )


def make_plan(dataset: Dataset, protocol: Protocol, *, rounds: int) -> Plan:
    """Draw the references and list what is to be done in `rounds` rounds.

    Raises:
        ReadError: a group of one image, where others were to be matted from it.
        OptionError: choices that do not fit the data set.
    """
    if dataset.clips:
        return _plan_of_clips(dataset, protocol, rounds)
    guidance = _guidance(dataset, protocol)
    region = _region(dataset, protocol)
    if protocol.frames is not None:
        raise OptionError(
            f"{protocol.frames} frames asked for, but {dataset.name} holds images; leave it out"
        )
    if guidance == "each":
        every = [tuple(range(len(group.images))) for group in dataset.groups]
        parts = [
            WorkItem(i, k, (), images) for k in range(rounds) for i, images in enumerate(every)
        ]
        return Plan(
            dataset, protocol, guidance, region, tuple(parts), ("every image is marked itself",)
        )
    kept_out = max(protocol.kept_out, protocol.references)
    large = [
        i for i, group in enumerate(dataset.groups) if _is_large_enough(group, dataset, kept_out)
    ]
    if not large:
        raise OptionError(
            f"{kept_out} references asked for, but no group of {dataset.name} has more than {kept_out} images"
        )
    parts = [
        _part(i, k, dataset.groups[i], protocol, kept_out) for k in range(rounds) for i in large
    ]
    left = len(dataset.groups) - len(large)
    notes = [f"groups of at most {kept_out} images are left out: {left}"] if left else []
    return Plan(dataset, protocol, guidance, region, tuple(parts), tuple(notes))


def _part(index: int, number: int, group: Group, protocol: Protocol, kept_out: int) -> WorkItem:
    seed = protocol.seed + (number if protocol.draw_references else 0)
    order = _rng(seed, group.name).permutation(len(group.images)).tolist()
    return WorkItem(
        index, number, tuple(order[: protocol.references]), tuple(sorted(order[kept_out:]))
    )


def _plan_of_clips(dataset: Dataset, protocol: Protocol, rounds: int) -> Plan:
    unused = {
        "guidance": protocol.guidance,
        "region": protocol.region,
        "draw_references": protocol.draw_references,
    }
    given = [name for name, value in unused.items() if value]
    if given:
        raise OptionError(f"{given[0]} was given, but {dataset.name} holds clips; leave it out")
    parts = []
    for k in range(rounds):
        for i, clip in enumerate(dataset.clips):
            count = _frames_used(clip, protocol)
            if protocol.prompt == "trimap":
                parts.append(WorkItem(i, k, (), tuple(range(count))))
                continue
            marked = tuple(
                dict.fromkeys(count * n // protocol.references for n in range(protocol.references))
            )
            later = tuple(frame for frame in range(count) if frame not in marked)
            # Of a single frame it is the marked one that is looked at.
            parts.append(WorkItem(i, k, marked, later or marked))
    guidance: Guidance = "each" if protocol.prompt == "trimap" else "group"
    return Plan(
        dataset,
        protocol,
        guidance,
        "whole",
        tuple(parts),
        tuple(_notes_of_clips(dataset, protocol)),
    )


def _notes_of_clips(dataset: Dataset, protocol: Protocol) -> Iterator[str]:
    if protocol.frames is not None:
        yield f"the first {'frame' if protocol.frames == 1 else f'{protocol.frames} frames'} of each clip"
    if protocol.prompt == "trimap":
        yield "every frame has a trimap made of its truth"
    elif protocol.frames == 1:
        yield "the marked frame itself counts"
    if any(clip.first_mask for clip in dataset.clips) and protocol.prompt == "mask":
        yield "first masks are those of the data set"


def _frames_used(clip: Clip, protocol: Protocol) -> int:
    return min(len(clip.frames), protocol.frames or len(clip.frames))


def _guidance(dataset: Dataset, protocol: Protocol) -> Guidance:
    if protocol.guidance is not None:
        return protocol.guidance
    alone = all(len(group.images) == 1 for group in dataset.groups)
    return "each" if alone or protocol.prompt == "trimap" else "group"


def _region(dataset: Dataset, protocol: Protocol) -> Region:
    without = next(
        (s.image for group in dataset.groups for s in group.images if s.trimap is None), None
    )
    if protocol.region == "unknown" and without is not None:
        raise OptionError(
            f"{without}: has no trimap, but errors in the unknown area were asked for; use region 'whole'"
        )
    return protocol.region or ("whole" if without is not None else "unknown")


def _is_large_enough(group: Group, dataset: Dataset, kept_out: int) -> bool:
    if len(group.images) == 1:
        raise ReadError(
            f"{dataset.root}: group {group.name!r} holds one image, {group.images[0].image.name}, but a reference "
            f"needs another image to be matted from it; add one, or have every image marked itself (--guidance each)"
        )
    return len(group.images) > kept_out


def _rng(seed: int, name: str) -> Rng:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
