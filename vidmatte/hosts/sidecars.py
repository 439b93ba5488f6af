"""Sidecars: a script beside the outputs that opens them in a host program, interpreted right.

They are put in place together with the outputs, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vidmatte import __version__
from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import ColorSpace, VideoInfo
from vidmatte.hosts.after_effects import after_effects_script
from vidmatte.hosts.clips import HostShot, clip_of, is_readable, plate_of, sidecar_name
from vidmatte.hosts.fusion import fusion_setting
from vidmatte.hosts.nuke import nuke_script
from vidmatte.write import OutputSpec
from vidmatte.write.partial import clean_stale, partial_path


@dataclass(frozen=True)
class _Kind:
    program: str
    extension: str
    script: Callable[[HostShot], str]


_KINDS: Mapping[str, _Kind] = {
    "nuke": _Kind("Nuke", ".nk", nuke_script),
    "fusion": _Kind("Fusion", ".setting", fusion_setting),
    "ae": _Kind("After Effects", ".jsx", after_effects_script),
}
SIDECARS = tuple(_KINDS)
"""Names of the hosts that have a sidecar."""


def check_sidecars(
    names: Sequence[str], specs: Sequence[OutputSpec], *, images: bool
) -> tuple[str, ...]:
    """Return the names without repetition.

    Args:
        names: Hosts to write a sidecar for.
        specs: All outputs of the run.
        images: Whether the source is a set of independent images.

    Raises:
        OptionError: If a host is unknown, or there is nothing that it could read.
    """
    for name in names:
        if name not in _KINDS:
            raise OptionError(f"sidecar {name!r} is not valid: choose from {', '.join(_KINDS)}")
    if names and images:
        raise OptionError(
            "sidecars are for clips, and a set of images is none: leave --sidecar out"
        )
    if names and not any(map(is_readable, specs)):
        written = ", ".join(map(str, specs)) or "nothing"
        raise OptionError(
            f"a sidecar was asked for, and {_KINDS[names[0]].program} reads none of the outputs "
            f"({written}); add one such as .mov, %04d.png or %04d.exr"
        )
    return tuple(dict.fromkeys(names))


def sidecar_paths(names: Sequence[str], requested: Sequence[OutputSpec]) -> tuple[Path, ...]:
    """Return the files of sidecars: beside the first output, with its name.

    Args:
        names: Hosts, as returned by `check_sidecars`.
        requested: The outputs as given; `{object}` may be in their names.
    """
    if not names:
        return ()
    # A folder of "{object}" would be one of many: the sidecar stays above it.
    folder = requested[0].folder
    while "{object}" in str(folder):
        folder = folder.parent
    stem = sidecar_name(requested)
    return tuple(folder / f"{stem}{_KINDS[name].extension}" for name in names)


class Sidecars:
    """The sidecars of one run. Use it in a `with` statement around that of the outputs.

    Leaving the block removes what was not put in place.
    """

    def __init__(
        self,
        names: Sequence[str],
        requested: Sequence[OutputSpec],
        specs: Sequence[OutputSpec],
        *,
        like: VideoInfo,
        source: str | Path | None,
        premultiplied: bool,
        overwrite: bool,
        output_space: ColorSpace | None = None,
    ) -> None:
        """Take the facts of a run; nothing is written yet.

        Args:
            names: Hosts, as returned by `check_sidecars`.
            requested: The outputs as given.
            specs: The outputs to write, one for each object.
            like: Facts of the source.
            source: Its path; None for frames in memory.
            premultiplied: Whether colour was asked for multiplied with alpha.
            overwrite: Replace existing sidecars.
            output_space: Colour space that was asked for EXR.

        Raises:
            WriteError: If a sidecar exists and `overwrite` is False.
        """
        self.paths = sidecar_paths(names, requested)
        self._names = names
        self._specs = specs
        # Hosts count in the display window; overscan of EXR lies around it.
        self._like = like.on_display
        self._output_space = output_space
        self._source = source
        self._premultiplied = premultiplied
        self._partials: list[Path] = []
        for path in self.paths:
            if os.path.isdir(path):
                raise WriteError(f"{path}: is a folder, and the sidecar gets this name; remove it")
            if os.path.lexists(path) and not overwrite:
                raise WriteError(
                    f"{path} exists already; use --overwrite to replace the sidecar, or choose "
                    f"another name for the first output"
                )

    def __enter__(self) -> Sidecars:
        return self

    def write(self, *, frames: int, index: int) -> list[tuple[Path, Path]]:
        """Write all sidecars, and return the renames (from, to) that put them in place.

        Args:
            frames: Number of written frames.
            index: Index of the first one in the source.

        Raises:
            WriteError: If a file cannot be written.
        """
        moves = []
        shot = self._shot(frames, index) if self._names else None
        for name, path in zip(self._names, self.paths, strict=True):
            assert shot is not None  # there are names
            partial = partial_path(path)
            self._partials.append(partial)
            try:
                clean_stale(path)
                partial.write_text(_KINDS[name].script(shot), encoding="utf-8", errors="replace")
            except OSError as error:
                raise WriteError(
                    f"{path}: the sidecar cannot be written ({error.strerror}); check the free "
                    f"space and the rights of {path.parent.absolute()}"
                ) from error
            moves.append((partial, path))
        return moves

    def _shot(self, frames: int, index: int) -> HostShot:
        readable = [spec for spec in self._specs if is_readable(spec)]
        clips = tuple(
            clip_of(
                spec,
                like=self._like,
                # As the writers number images.
                first=(self._like.first_number or 0) + index,
                frames=frames,
                premultiplied=self._premultiplied,
                output_space=self._output_space,
            )
            for spec in readable
        )
        left_out = tuple(Path(spec.path).name for spec in self._specs if spec not in readable)
        plate = None
        if self._source is not None:
            plate = plate_of(
                self._source,
                like=self._like,
                index=index,
                frames=frames,
            )
        name = self.paths[0].stem
        return HostShot(name, clips, left_out, plate, f"vidmatte {__version__}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for partial in self._partials:
            partial.unlink(missing_ok=True)
