"""Write the outputs of a run beside their final names, and put all in place when complete."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Literal

from vidmatte.errors import OptionError, VidmatteError, WriteError
from vidmatte.frames import ColorSpace, MatteBatch, VideoInfo
from vidmatte.write.avif import AvifWriter, check_avif
from vidmatte.write.checks import check_outputs
from vidmatte.write.encode_thread import EncodeThread, Writer
from vidmatte.write.exr import check_exr
from vidmatte.write.folders import create_folders, remove_folders
from vidmatte.write.identity import InputFiles
from vidmatte.write.images import ImageWriter
from vidmatte.write.movie import MovieWriter
from vidmatte.write.part import EncodedPart
from vidmatte.write.partial import clean_stale, guard, keep, lock, partial_path
from vidmatte.write.publish import PlacementError, publish
from vidmatte.write.specs import OutputSpec, parse_output

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenFile:
    """A complete output in its final place."""

    path: Path
    """The file, or the pattern of an image sequence."""
    kind: Literal["colour", "alpha"]
    codec: str
    pixel_format: str
    frames: int
    object_name: str = ""
    """Name of its object; empty for one object without a name."""


def create_outputs(
    specs: OutputSpec | Path | str | Sequence[OutputSpec | Path | str],
    *,
    like: VideoInfo,
    overwrite: bool = False,
    premultiplied: bool = False,
    bit_depth: int = 16,
    start: Fraction | None = None,
    end: Fraction | None = None,
    audio: bool = True,
    inputs: Sequence[Path | str] = (),
    command: str = "",
    weights: str = "",
    output_space: ColorSpace | None = None,
) -> Outputs:
    """Return the outputs for the mattes of a clip or a set of images, for a `with` block.

    Checks all that can be checked before any work; nothing is left on the disk yet.

    Args:
        specs: One path or several of colour with alpha, with or without format options (see
            `split_format_options`), or results of `parse_output`.
        like: The clip; gives size, time base, colour, pixel aspect, timecode and sound.
        overwrite: Replace existing outputs.
        premultiplied: Multiply colour with alpha, in display space. EXR is premultiplied in linear
            light unless "straight" is chosen for it.
        bit_depth: Of PNG images, 8 or 16.
        start: Beginning of the written part of the source, in seconds after its first frame.
            The sound is cut there, and times begin at 0. None for the beginning, with its times.
        end: End of that part, in the same unit; None for the end of the source.
        audio: Take the sound of the source over, if the format has a place for it.
        inputs: Input files, folders and patterns: no output may be one of them.
        command: Command line of the run, kept in the metadata of MOV and EXR.
        weights: Names and hashes of the weights of the run, kept there too.
        output_space: Colour space of EXR; None for that of the clip if it is linear, see
            `write.exr.space_of_output`.

    Raises:
            OptionError: If outputs do not fit each other or the inputs.
            WriteError: If an output cannot be written, or exists already.
    """
    if isinstance(specs, OutputSpec | Path | str):
        specs = [specs]
    checked = [_as_spec(spec) for spec in specs]
    if not checked:
        raise OptionError("no output was given; give at least one path")
    _check_bit_depth(bit_depth, checked)
    frames = _frames_in_header(like, start, end)
    for spec in checked:
        _check_library(spec, like, frames=frames, premultiplied=premultiplied, space=output_space)
    used = check_outputs(checked, like=like.on_display, inputs=inputs, overwrite=overwrite)

    # Only EXR holds what lies outside of the display window.
    shown = like.on_display

    def writer(spec: OutputSpec, partial: Path) -> Writer:
        if spec.format.codec == "avif":
            return AvifWriter(spec, partial, like=shown, audio=audio)
        if spec.format.is_movie:
            return MovieWriter(
                spec,
                partial,
                like=shown,
                premultiplied=premultiplied,
                start=start,
                end=end,
                audio=audio,
                command=command,
                weights=weights,
            )
        return ImageWriter(
            spec,
            partial,
            like=like if _is_exr(spec) else shown,
            premultiplied=premultiplied,
            bit_depth=bit_depth,
            overwrite=overwrite,
            inputs=used,
            command=command,
            weights=weights,
            space=output_space,
        )

    # Beside the target of a link: renaming works on one disk only.
    finals = [Path(os.path.realpath(spec.path)) for spec in checked]
    partials = [partial_path(final) for final in finals]
    writers = [writer(spec, partial) for spec, partial in zip(checked, partials, strict=True)]
    return Outputs(writers, finals, partials, like=like, overwrite=overwrite, inputs=used)


def _check_bit_depth(bit_depth: int, specs: Sequence[OutputSpec]) -> None:
    if bit_depth not in (8, 16):
        raise OptionError(f"PNG has 8 or 16 bits, not {bit_depth}")
    if bit_depth != 16 and all(spec.format.codec != "png" for spec in specs):
        raise OptionError(
            f"{bit_depth} bits are a choice for PNG, and no output is one; "
            f"other formats have their own"
        )


def _without_source(batch: MatteBatch) -> MatteBatch:
    """Return a batch that does not hold the source's pictures if it has colour of its own.

    Batches wait in queues, and their memory counts several times.
    """
    if batch.foreground is None:
        return batch
    return replace(batch, source=replace(batch.source, rgb=batch.foreground))


def _is_exr(spec: OutputSpec) -> bool:
    return spec.format.codec == "exr"


def _check_library(
    spec: OutputSpec,
    like: VideoInfo,
    *,
    frames: int | None,
    premultiplied: bool,
    space: ColorSpace | None,
) -> None:
    if _is_exr(spec):
        straight = spec.format.options.get("colour") == "straight"
        check_exr(like.color, alpha_only=spec.alpha_only, space=space, straight=straight)
    elif spec.format.codec == "avif":
        check_avif(spec, like.on_display, frames=frames, premultiplied=premultiplied)


def _frames_in_header(like: VideoInfo, start: Fraction | None, end: Fraction | None) -> int | None:
    """Return the number of frames between two times, by the headers."""
    if like.frames_in_header is None:
        return None
    last = (
        like.frames_in_header
        if end is None
        else min(like.frames_in_header, math.ceil(end * like.frame_rate))
    )
    # A frame counts if any part of it lies in the range.
    return last - math.floor((start or 0) * like.frame_rate)


def _as_spec(spec: OutputSpec | Path | str) -> OutputSpec:
    return spec if isinstance(spec, OutputSpec) else parse_output(spec, alpha_only=False)


class Outputs:
    """The outputs of one run, each encoding in a thread of its own, a few batches behind.

    Leaving the `with` block completes them and puts all in place; leaving it with an exception
    removes all traces. Complete outputs that cannot have their names are kept under others.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        finals: Sequence[Path],
        partials: Sequence[Path],
        *,
        like: VideoInfo,
        overwrite: bool,
        inputs: InputFiles,
    ) -> None:
        self.files: tuple[WrittenFile, ...] = ()
        """The files; empty until everything is in place."""
        self._writers = tuple(writers)
        self._finals = finals
        self._partials = partials
        # Descriptors of locks: closing one releases it.
        self._held: list[int] = []
        self._notes: list[str] = []
        self._threads: list[EncodeThread] = []
        self._like = like
        self._overwrite = overwrite
        self._inputs = inputs
        self._new_folders: list[Path] = []
        self._last_pts: int | None = None
        self._beside: list[tuple[Path, Path]] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Facts of the source that an output could not keep, one sentence each."""
        return (*self._notes, *(note for writer in self._writers for note in writer.notes))

    def __enter__(self) -> Outputs:
        try:
            for writer, final, partial in zip(
                self._writers, self._finals, self._partials, strict=True
            ):
                try:
                    self._new_folders += create_folders(final.parent)
                    # The partial file must not be created and locked in two steps that another run
                    # can see.
                    with guard(final.parent):
                        self._clean(writer.spec, final)
                        writer.create()
                        self._hold(partial)
                except OSError as error:
                    raise writer.failure(error) from error
            for writer in self._writers:
                self._threads.append(EncodeThread(writer, self._like))
        except BaseException as error:
            self._give_up(error)
            raise
        return self

    def _clean(self, spec: OutputSpec, final: Path) -> None:
        removed = clean_stale(final)
        if removed:
            names = ", ".join(removed)
            self._notes.append(f"{spec}: removed what a killed run had left: {names}")

    def write(self, mattes: MatteBatch | Mapping[str, MatteBatch]) -> None:
        """Take the next mattes, in order of presentation; wait if an encoder is behind.

        Args:
            mattes: Of one object, or of several by name, of the same frames. They must not be
                changed afterwards.

        Raises:
            WriteError: If an output failed, now or with an earlier batch.
        """
        if isinstance(mattes, MatteBatch):
            # A batch without names is the one object of every output.
            mattes = {writer.spec.object_name: mattes for writer in self._writers}
        mattes = {name: _without_source(batch) for name, batch in mattes.items()}
        batch = next(iter(mattes.values()))
        for writer in self._writers:
            if writer.format.is_movie:
                self._check_for_movie(batch, writer.spec)
        self._last_pts = batch.source.pts[-1]
        shown = self._on_display(mattes)
        for thread, writer in zip(self._threads, self._writers, strict=True):
            held = mattes if _is_exr(writer.spec) else shown
            layers = writer.spec.layers
            thread.put({name: held[name] for name in layers or (writer.spec.object_name,)})

    def _on_display(self, mattes: Mapping[str, MatteBatch]) -> Mapping[str, MatteBatch]:
        """Return the mattes cut to the display window."""
        windows = self._like.windows
        if windows is None or all(_is_exr(writer.spec) for writer in self._writers):
            return mattes
        return {name: batch.within(windows.display, windows) for name, batch in mattes.items()}

    def append(self, parts: Sequence[EncodedPart]) -> None:
        """Take the next part of each output, in the order of the specs, in place of `write`.

        Raises WriteError.
        """
        for thread, part in zip(self._threads, parts, strict=True):
            thread.put(part)

    def end_sound_with_picture(self) -> None:
        """Leave out the sound behind the last frame, for a source that ends early.

        Call it before the `with` block ends.
        """
        for writer in self._writers:
            if isinstance(writer, MovieWriter):
                writer.ends_sound_with_picture = True

    def add_to_commit(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Rename these files (from, to) with the outputs: all are put in place, or none."""
        self._beside.extend(moves)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._give_up(error)
            return
        try:
            for thread in self._threads:
                thread.end()
            moves = [move for thread in self._threads for move in thread.result()]
            if any(writer.frames == 0 for writer in self._writers):
                raise WriteError(f"{self._writers[0].spec}: there was no frame to write")
            # A report appears together with the outputs, or not at all.
            moves += self._beside
            left = publish(moves, overwrite=self._overwrite, inputs=self._inputs)
        except PlacementError as failure:
            raise self._kept(failure) from failure
        except BaseException as failure:
            self._give_up(failure)
            raise
        self._notes += left
        self._remove_empty_partials()
        self._let_go()
        self.files = tuple(
            WrittenFile(
                Path(writer.spec.path),
                writer.kind,
                writer.format.codec,
                writer.pixel_format,
                writer.frames,
                writer.spec.object_name,
            )
            for writer in self._writers
        )

    def _check_for_movie(self, batch: MatteBatch, spec: OutputSpec) -> None:
        if batch.source.names:
            raise WriteError(f"{spec}: a set of images is not a movie; use {{name}}.png")
        height, width = batch.alpha.shape[2:]
        if (width, height) != (self._like.width, self._like.height):
            raise WriteError(
                f"{spec}: frame {batch.source.frames[0]} is {width}x{height}, but the movie is "
                f"{self._like.width}x{self._like.height}; all frames of a movie have one size"
            )
        times = [*([] if self._last_pts is None else [self._last_pts]), *batch.source.pts]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"frames must come in order of presentation, got pts {times}")

    def _hold(self, partial: Path) -> None:
        descriptor = lock(partial)
        if descriptor is not None:
            self._held.append(descriptor)

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _remove_empty_partials(self) -> None:
        """Remove the folders that images were renamed from; a failure is only noted."""
        for writer, partial in zip(self._writers, self._partials, strict=True):
            try:
                writer.discard()
            except OSError as error:
                self._notes.append(f"{partial}: could not be removed ({error.strerror}); delete it")

    def _kept(self, failure: PlacementError) -> PlacementError:
        """Keep complete outputs under other names, and return an error with these names."""
        for writer in self._writers:
            writer.close()
        finals = dict(zip(self._partials, self._finals, strict=True))
        for partial, final in self._beside:
            # A report consists of files in one hidden folder, or is that folder.
            in_folder = partial.parent.suffix == ".partial"
            finals[partial.parent if in_folder else partial] = final.parent if in_folder else final
        kept = [keep(partial, final) for partial, final in finals.items()]
        self._let_go()
        names = ", ".join(str(path) for path in kept if path is not None)
        if not names:
            return PlacementError(f"{failure}; the finished output is gone with its folder")
        return PlacementError(
            f"{failure}; the finished output is kept as {names}: rename it yourself"
        )

    def _give_up(self, error: BaseException) -> None:
        """Remove all traces of a run that failed.

        Raises WriteError in place of one of our errors if something could not be removed.
        """
        # The threads first: a writer must not be removed under a running encoder.
        for thread in self._threads:
            thread.stop()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):  # seen below
                writer.discard()
        self._let_go()
        remove_folders(self._new_folders)
        left = [str(partial) for partial in self._partials if os.path.lexists(partial)]
        if left:
            advice = f"{', '.join(left)} could not be removed: delete it"
            if isinstance(error, VidmatteError):
                # An interrupt stays an interrupt: only our own errors get the advice.
                raise WriteError(f"{error}; {advice}") from error
            _log.warning(advice)
