"""Command lines to repeat a run, as it was or with one more reference."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidmatte.prompts.arrays import MaskArray
from vidmatte.prompts.prompt import Prompt
from vidmatte.write import OutputSpec

_OTHER_NAMES = {"frame_rate": "fps"}
"""Options with another name on the command line than in Python."""
_WITHOUT_EFFECT = ("batch_size", "segment_frames")
"""Options for the way of running, without an effect on the outputs."""
_MASK_IN_MEMORY = "MASK.png"
_PATHS = (
    "model",
    "matte",
    "sd",
    "weights",
    "prompt_weights",
    "trimaps",
    "inside_mask",
    "outside_mask",
)


@dataclass(frozen=True)
class Invocation:
    """A run as it was asked for on the command line."""

    sources: Sequence[str | Path]
    images: bool
    reference: str | Path | None
    objects: Mapping[str, Sequence[Prompt]]
    """The marks of each object; the object "" if they do not come from a prompt file."""
    specs: Sequence[OutputSpec]
    report: Path | None
    """Folder of the report, if any."""
    options: Mapping[str, object]
    """The other options, if they differ from their defaults."""
    sidecars: Sequence[str] = ()
    """Hosts that get a sidecar."""

    def with_reference(self, frame: int) -> str:
        """Return the command with one more frame marked, its marks as words in capitals."""
        # The outputs of the run are there already.
        return shlex.join([*self._words(self._marks(frame)), "--overwrite"])

    def with_prompts(self, prompt_file: str | Path, *, overwrite: bool) -> str:
        """Return the command to repeat the run with the marks of a prompt file."""
        marks = [] if self.reference is None else ["--reference", str(self.reference)]
        marks += ["--prompts", str(prompt_file)]
        return shlex.join([*self._words(marks), *(["--overwrite"] if overwrite else [])])

    def recipe(self) -> str:
        """Return the command as outputs keep it: source, marks and options, no outputs.

        Equal mattes have equal recipes: of paths, only the names of the files are kept, and options
        without an effect on the outputs are left out.
        """
        words = ["vidmatte", *(Path(source).name for source in self.sources)]
        words += ["--images"] if self.images else []
        if self.reference is not None:
            words += ["--reference", Path(self.reference).name]
        # Folders say where a clip was, not how it was matted.
        given = [_without_folders(prompt) for prompt in self.objects.get("", ())]
        if not self._kinds:
            words += ["--prompts", "FILE.json"]
        elif len(given) == 1 and given[0].frame is None:
            words += _words_of(given[0])
        else:
            words += self._marks_of(given)
        for name, value in self.options.items():
            if name not in _WITHOUT_EFFECT:
                words += _as_words(name, Path(str(value)).name if name in _PATHS else value)
        return shlex.join(words)

    def _words(self, marks: Sequence[str]) -> list[str]:
        words = [
            "vidmatte",
            *map(str, self.sources),
            *(["--images"] if self.images else []),
            *marks,
        ]
        for spec in self.specs:
            words += ["--alpha" if spec.alpha_only else "-o", spec.argument]
        for host in self.sidecars:
            words += ["--sidecar", host]
        for name, value in self.options.items():
            words += _as_words(name, value)
        return words if self.report is None else [*words, "--report", str(self.report)]

    def in_prompt_file(self, frame: int) -> str | None:
        """Return the entry to add to the prompt file for that command; None if it needs no file."""
        return None if self._kinds else f'{{"frame": {frame}, "points": [[X, Y, 1]]}}'

    @property
    def _given(self) -> Sequence[Prompt]:
        """The remaining prompts: marks on another image exclude marks on the source."""
        return self.objects.get("", ()) if self.reference is None else ()

    @property
    def _kinds(self) -> tuple[str, ...]:
        """The kinds of marks, if options can give them: one object, equal kinds on all frames."""
        if "" not in self.objects:
            return ()
        # Strokes are curves that no option can describe; scribbles are images of them.
        if any(prompt.strokes for prompt in self._given):
            return ()
        # One --extent belongs to all frames.
        if len({prompt.extent for prompt in self._given}) > 1:
            return ()
        # Without marks, the command begins with points.
        kinds = {tuple(_as_options(prompt)) for prompt in self._given} or {("--points",)}
        # Options of one kind belong to the n-th --ref-frame, so that all frames need that kind.
        return kinds.pop() if len(kinds) == 1 else ()

    def _marks(self, frame: int) -> list[str]:
        if not self._kinds:
            return ["--prompts", "FILE.json"]
        words = [*self._marks_of(self._given), "--ref-frame", str(frame)]
        for kind in self._kinds:
            words += [kind, _PLACES[kind].format(frame=frame)]
        return words

    @staticmethod
    def _marks_of(prompts: Sequence[Prompt]) -> list[str]:
        words = []
        for prompt in prompts:
            words += ["--ref-frame", "index:0" if prompt.frame is None else str(prompt.frame)]
            words += _words_of(prompt)
        for extent in {prompt.extent for prompt in prompts} - {None}:
            words += ["--extent", str(extent)]
        return words


def _words_of(prompt: Prompt) -> list[str]:
    return [word for option in _as_options(prompt).items() for word in option]


def _without_folders(prompt: Prompt) -> Prompt:
    mask = Path(prompt.mask.name) if isinstance(prompt.mask, Path) else prompt.mask
    scribbles = None if prompt.scribbles is None else Path(prompt.scribbles.name)
    return replace(prompt, mask=mask, scribbles=scribbles)


def _as_words(name: str, value: object) -> list[str]:
    """Return an option by its name in Python, and its value, as they stand on the command line."""
    option = f"--{_OTHER_NAMES.get(name, name).replace('_', '-')}"
    return [option] if value is True else [option, str(value)]


_PLACES = {
    "--points": "X,Y X,Y,0",
    "--box": "X0,Y0,X1,Y1",
    "--mask": "MASK_{frame}.png",
    "--scribbles": "STROKES_{frame}.png",
}


def _as_options(prompt: Prompt) -> dict[str, str]:
    points = " ".join(f"{x:.6g},{y:.6g}" + ("" if label else ",0") for x, y, label in prompt.points)
    box = ",".join(f"{value:.6g}" for value in prompt.box or ())
    words = {
        "--points": points,
        "--box": box,
        "--mask": _MASK_IN_MEMORY if isinstance(prompt.mask, MaskArray) else prompt.mask,
        "--scribbles": prompt.scribbles,
    }
    return {option: str(value) for option, value in words.items() if value}
