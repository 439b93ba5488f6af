"""The command line that would repeat a run with one reference more."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidmatte.prompts.prompt import Prompt
from vidmatte.write import OutputSpec

_OTHER_NAMES = {"frame_rate": "fps"}
"""Fields of the options that the command line calls otherwise."""


@dataclass(frozen=True)
class Invocation:
    """What a run was asked for."""

    sources: Sequence[str | Path]
    images: bool
    reference: str | Path | None
    objects: Mapping[str, Sequence[Prompt]]
    """The marks of each object; of one without a name where they do not come from a prompt file."""
    specs: Sequence[OutputSpec]
    report: Path | None
    """Folder of the report; None where none is asked for."""
    options: Mapping[str, object]
    """The other choices, where they are not the default."""

    def with_reference(self, frame: int) -> str:
        """The command with marks on one more frame, capitals in place of what only a person can give."""
        return shlex.join([*self._words(self._marks(frame)), "--overwrite"])

    def with_prompts(self, prompt_file: str | Path, *, overwrite: bool) -> str:
        """The command that repeats the run with the marks of a file."""
        return shlex.join(
            [*self._words(["--prompts", str(prompt_file)]), *(["--overwrite"] if overwrite else [])]
        )

    def _words(self, marks: Sequence[str]) -> list[str]:
        words = [
            "vidmatte",
            *map(str, self.sources),
            *(["--images"] if self.images else []),
            *marks,
        ]
        for spec in self.specs:
            words += ["--alpha" if spec.alpha_only else "-o", spec.argument]
        for name, value in self.options.items():
            option = f"--{_OTHER_NAMES.get(name, name).replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
        return words if self.report is None else [*words, "--report", str(self.report)]

    def in_prompt_file(self, frame: int) -> str | None:
        """What to add to the prompt file of that command; None where the command says it all."""
        return None if self._kinds else f'{{"frame": {frame}, "points": [[X, Y, 1]]}}'

    @property
    def _given(self) -> Sequence[Prompt]:
        """The prompts that stay: marks on another image cannot stand beside marks on the source."""
        return self.objects.get("", ()) if self.reference is None else ()

    @property
    def _kinds(self) -> tuple[str, ...]:
        """The kinds of marks, where options can give them: one object, and all frames have the same ones."""
        if "" not in self.objects:
            return ()
        kinds = {tuple(_as_options(prompt)) for prompt in self._given} or {("--points",)}
        has_strokes = any(prompt.strokes for prompt in self._given)
        return () if has_strokes or len(kinds) > 1 else kinds.pop()

    def _marks(self, frame: int) -> list[str]:
        if not self._kinds:
            return ["--prompts", "FILE.json"]
        words = []
        for prompt in self._given:
            words += ["--ref-frame", str(prompt.frame)]
            for option, value in _as_options(prompt).items():
                words += [option, value]
        words += ["--ref-frame", str(frame)]
        for kind in self._kinds:
            words += [kind, _PLACES[kind].format(frame=frame)]
        return words


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
        "--mask": prompt.mask,
        "--scribbles": prompt.scribbles,
    }
    return {option: str(value) for option, value in words.items() if value}
