"""Several objects in one run: their names, what of an output belongs to which, and who owns a pixel."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch

from vidmatte.errors import OptionError
from vidmatte.frames import MatteBatch
from vidmatte.prompts.prompt import Prompt
from vidmatte.write import OutputSpec, parse_output, split_format_options

Mattes = tuple[MatteBatch, ...]
"""Of each object, for the same frames."""

_OBJECT = "{object}"
_LAYERED = ".exr"


def prompts_of_objects(
    prompts: Prompt | Sequence[Prompt] | Mapping[str, Prompt | Sequence[Prompt]],
) -> dict[str, list[Prompt]]:
    """Prompts by object; marks without a name are those of one object named "".

    Names become parts of file and layer names: what is not a letter, a digit, "-" or "_" turns into "_".

    Raises OptionError without any object, and for two names that would be one.
    """
    if not isinstance(prompts, Mapping):
        return {"": _as_list(prompts)}
    objects: dict[str, list[Prompt]] = {}
    for name, marks in prompts.items():
        clean = clean_name(name)
        if not clean or clean.casefold() in map(str.casefold, objects):
            raise OptionError(
                f"object {name!r}: its name is empty, or that of another object in file names, where only letters, "
                f"digits, - and _ stand; give each object its own name"
            )
        objects[clean] = _as_list(marks)
    if not objects:
        raise OptionError("no object is marked: give at least one prompt")
    return objects


def clean_name(name: str) -> str:
    """The name of an object as it stands in the names of files and layers."""
    return re.sub(r"[^\w-]", "_", name)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    return [prompts] if isinstance(prompts, Prompt) else list(prompts)


def outputs_of_objects(path: str | Path, objects: Sequence[str], *, alpha_only: bool) -> list[OutputSpec]:
    """The targets of an output path: one for each object where it has `{object}`, else one for the only object.

    Several objects share an EXR without `{object}` as its layers. Raises OptionError for any other such path.
    """
    if _OBJECT in str(path):
        if objects == [""]:
            raise OptionError(
                f"{path}: {_OBJECT} stands for the names of objects, which the marks of a prompt file have"
            )
        return [
            parse_output(str(path).replace(_OBJECT, name), alpha_only=alpha_only, object_name=name) for name in objects
        ]
    if len(objects) == 1:
        return [parse_output(path, alpha_only=alpha_only, object_name=objects[0])]
    if Path(split_format_options(path)[0]).suffix.lower() == _LAYERED:
        return [parse_output(path, alpha_only=alpha_only, layers=tuple(objects))]
    raise OptionError(
        f"{path}: {len(objects)} objects are marked ({', '.join(objects)}); write {_OBJECT} into the name for a file "
        f"each, give %06d.exr for a layer each, or choose one of them (--object)"
    )


def share_overlaps(mattes: Mattes) -> Mattes:
    """Mattes of objects in the same frames, so that their alpha sums to at most 1 in each pixel.

    Where the sum is above 1, each is divided by it: none is taken to lie before the others. Elsewhere nothing changes.
    """
    if len(mattes) == 1:
        return mattes
    total = torch.stack([matte.alpha for matte in mattes]).sum(0).clamp(min=1)
    return tuple(replace(matte, alpha=matte.alpha / total) for matte in mattes)


def together(mattes: Mattes) -> MatteBatch:
    """One matte of all objects, as sure as the least sure of them."""
    alpha = torch.stack([matte.alpha for matte in mattes]).sum(0).clamp(max=1)
    return MatteBatch(
        mattes[0].source, alpha, tuple(map(min, zip(*(matte.confidence for matte in mattes), strict=True)))
    )


def for_each_object(
    stage: Callable[[Iterator[MatteBatch]], Generator[MatteBatch]], mattes: Iterator[Mattes], count: int
) -> Generator[Mattes]:
    """Run a stage for single objects on all of them, in step: what one is ahead of the others waits."""
    waiting: list[deque[MatteBatch]] = [deque() for _ in range(count)]

    def of_object(index: int) -> Iterator[MatteBatch]:
        while True:
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
