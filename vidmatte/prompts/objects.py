"""Several objects in one run: their names and prompts, and how they share a pixel."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vidmatte.errors import OptionError
from vidmatte.frames import MatteBatch
from vidmatte.options import MaskEdge, MaskFit
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.prompts.reference import make_references
from vidmatte.read import Video
from vidmatte.read.labels import split_label
from vidmatte.read.plane import labels_of

Mattes = tuple[MatteBatch, ...]
"""Mattes of each object, for the same frames."""
Prompts = Prompt | Sequence[Prompt] | Mapping[str, Prompt | Sequence[Prompt]]
"""Prompts of one object, or a mapping from the names of several objects to theirs."""


@dataclass(frozen=True)
class ObjectPrompts:
    """The prompts of each object, and the marked image or clip."""

    objects: Mapping[str, Sequence[Prompt]]
    """Prompts by object name; one object without a name is named ""."""
    reference: str | Path | None = None
    """The marked image or clip; None for the source itself."""

    @classmethod
    def of(cls, prompts: Prompts, reference: str | Path | None = None) -> ObjectPrompts:
        """Return the prompts with clean object names; see `prompts_of_objects` for errors."""
        return cls(prompts_of_objects(prompts), reference)

    @property
    def files(self) -> list[Path | str]:
        """Return the image files of the prompts, and the reference."""
        prompts = [prompt for marks in self.objects.values() for prompt in marks]
        images = [path for prompt in prompts for path in (prompt.mask, prompt.scribbles)]
        files: list[Path | str] = [
            split_label(path)[0] for path in images if isinstance(path, Path)
        ]
        return files if self.reference is None else [self.reference, *files]

    def notes(self, source: str) -> list[str]:
        """Return a note on each clip of the prompts, if it is another one.

        `source` is the path of the clip to matte.
        """
        marked = Path(source if self.reference is None else self.reference)
        clips = [prompt.made_on for marks in self.objects.values() for prompt in marks]
        others = {clip for clip in clips if clip is not None and not clip.is_file(marked)}
        return [
            f"the prompts were made on another file, {clip}; check that they fit {marked.name}"
            for clip in sorted(others, key=str)
        ]

    def references(
        self, video: Video, mask_edge: MaskEdge = "soft", mask_fit: MaskFit = "exact"
    ) -> dict[str, tuple[Reference, ...]]:
        """Draw the references of each object; `video` is the source.

        `mask_edge` and `mask_fit` are those of all masks, see `MatteOptions`.

        Raises PromptError for marks outside of their frame, ReadError for a missing frame.
        """
        return {
            name: tuple(
                replace(reference, mask_edge=mask_edge)
                for reference in make_references(video, prompts, self.reference, mask_fit)
            )
            for name, prompts in self.objects.items()
        }


def prompts_of_objects(prompts: Prompts) -> dict[str, list[Prompt]]:
    """Return the prompts by object; prompts without a name belong to one object named "".

    Names become parts of file and layer names: every character except letters, digits, "-" and "_"
    becomes "_". A label mask of several objects gives them all, named by their labels.

    Raises OptionError if there is no object, or if two names become the same.
    """
    if not isinstance(prompts, Mapping):
        unnamed = _as_list(prompts)
        return _objects_of_labels(unnamed) or {"": unnamed}
    objects: dict[str, list[Prompt]] = {}
    for name, marks in prompts.items():
        clean = clean_name(name)
        # Names become parts of file names, and some disks ignore case.
        if not clean or clean.casefold() in map(str.casefold, objects):
            raise OptionError(
                f"object {name!r}: its name is empty, or that of another object in file names, "
                f"where only letters, digits, - and _ stand; give each object its own name"
            )
        objects[clean] = _as_list(marks)
    if not objects:
        raise OptionError("no object is marked: give at least one prompt")
    return objects


def _objects_of_labels(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """Return an object for each label of label masks with several, nothing without such a mask.

    Objects are named by their labels. A label missing in a frame gets no prompt there.

    Raises OptionError if such a mask and other marks are on the same frames.
    """
    labels = {
        prompt: labels_of(prompt.mask)
        for prompt in prompts
        if isinstance(prompt.mask, Path) and split_label(prompt.mask)[1] is None
    }
    if not any(len(found) > 1 for found in labels.values()):
        return {}
    objects: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        found = labels.get(prompt, ())
        is_alone = not (prompt.points or prompt.strokes or prompt.box or prompt.scribbles)
        # A label mask makes objects by itself, so other marks on its frame would be ambiguous.
        if not found or not is_alone:
            several = next(prompt.mask for prompt, some in labels.items() if len(some) > 1)
            raise OptionError(
                f"{several}: is a label mask of several objects, and other marks belong to one; "
                f"choose one of its labels, as in {several}:1, or mark with label masks alone"
            )
        for label in found:
            one = replace(prompt, mask=Path(f"{prompt.mask}:{label}"))
            objects.setdefault(str(label), []).append(one)
    # In order of the numbers, not of the text: 2 before 10.
    return dict(sorted(objects.items(), key=lambda item: int(item[0])))


def clean_name(name: str) -> str:
    """Return the name of an object as it is used in the names of files and layers."""
    return re.sub(r"[^\w-]", "_", name)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    return [prompts] if isinstance(prompts, Prompt) else list(prompts)


def share_overlaps(mattes: Mattes) -> Mattes:
    """Scale mattes of the same frames so that their alpha sums to at most 1 in each pixel.

    If the sum of a pixel is above 1, each alpha is divided by it: no object is assumed to be in
    front. Other pixels stay as they are.
    """
    if len(mattes) == 1:
        return mattes
    # Where objects claim more than the whole pixel, each gets its share of it.
    total = mattes[0].alpha + mattes[1].alpha
    for matte in mattes[2:]:
        total += matte.alpha
    if float(total.max()) <= 1:
        return mattes
    total.clamp_(min=1)
    return tuple(replace(matte, alpha=matte.alpha / total) for matte in mattes)


def lowest_confidence(mattes: Mattes) -> tuple[float, ...]:
    """Return the lowest confidence of all objects for each frame."""
    return tuple(map(min, zip(*(matte.confidence for matte in mattes), strict=True)))


def together(mattes: Mattes) -> MatteBatch:
    """Return one matte of all objects, with the lowest of their confidences."""
    alpha = torch.stack([matte.alpha for matte in mattes]).sum(0).clamp(max=1)
    return MatteBatch(mattes[0].source, alpha, lowest_confidence(mattes))


def for_each_object(
    stage: Callable[[Iterator[MatteBatch]], Generator[MatteBatch]],
    mattes: Iterator[Mattes],
    count: int,
) -> Generator[Mattes]:
    """Run a stage for single objects on all objects in step.

    Batches wait for the slowest object.
    """
    waiting: list[deque[MatteBatch]] = [deque() for _ in range(count)]

    def of_object(index: int) -> Iterator[MatteBatch]:
        while True:
            # Each object draws from its own queue; the first one to run dry reads for all.
            if not waiting[index]:
                drawn = next(mattes, None)
                if drawn is None:
                    return
                for queue, batch in zip(waiting, drawn, strict=True):
                    queue.append(batch)
            yield waiting[index].popleft()

    with ExitStack() as stack:
        stages = [stack.enter_context(closing(stage(of_object(index)))) for index in range(count)]
        yield from zip(*stages, strict=True)
