"""Outputs: everything is written beside its target, and put in place when all of it is complete."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

import av

from vidmatte.errors import OptionError, VidmatteError, WriteError
from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.write.avif import AvifWriter, check_avif
from vidmatte.write.checks import check_outputs
from vidmatte.write.exr import check_exr
from vidmatte.write.folders import create_folders, remove_folders
from vidmatte.write.identity import InputFiles
from vidmatte.write.images import ImageWriter
from vidmatte.write.movie import MovieWriter
from vidmatte.write.part import EncodedPart
from vidmatte.write.partial import clean_stale, keep, lock, partial_path
from vidmatte.write.publish import PlacementError, publish
from vidmatte.write.specs import OutputSpec, parse_output

_QUEUED_BATCHES, _LARGE_FRAME = 2, 1 << 22
"""How many batches wait for an encoder at most; one where a frame has more pixels than that."""
_POLL_SECONDS = 0.1
_log = logging.getLogger(__name__)

_Writer: TypeAlias = MovieWriter | ImageWriter | AvifWriter


@dataclass(frozen=True)
class WrittenFile:
    """An output that is complete and in place."""

    path: Path
    """The file, or the pattern of an image sequence."""
    kind: Literal["colour", "alpha"]
    codec: str
    pixel_format: str
    frames: int
    object_name: str = ""
    """Which of several objects it shows."""


def create_outputs(
    specs: Sequence[OutputSpec | Path | str],
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
) -> Outputs:
    """Return outputs that take the mattes of a clip or a set of images; to be entered with `with`.

    All that can be checked before any work is checked here, and nothing is left on the disk yet.

    Args:
        specs: Paths (of colour with alpha), with format options behind them or not (see
            `split_format_options`), or what `parse_output` makes of one.
        like: The clip; gives size, time base, colour, pixel aspect, timecode and sound.
        overwrite: Replace outputs that exist.
        premultiplied: Multiply colour with alpha, in display space. EXR is premultiplied in linear
            light unless "straight" is chosen for it.
        bit_depth: Of PNG images, 8 or 16.
        start: Where the part of the source that is written begins, in seconds after its first frame.
            The sound is cut there, and times begin at 0. None for the beginning, with its times.
        end: Where that part ends, in the same unit; None for the end.
        audio: Take the sound of the source over, if the format has a place for it.
        inputs: Files, folders and patterns that are read: no output may be one of them.
        command: What made the outputs, kept in the metadata of MOV and EXR.

    Raises:
        OptionError: outputs that do not fit each other or the inputs.
        WriteError: an output that cannot be written, or exists already.
    """
    checked = [_as_spec(spec) for spec in specs]
    if not checked:
        raise OptionError("no output was asked for; give at least one path")
    if bit_depth not in (8, 16):
        raise OptionError(f"PNG has 8 or 16 bits, not {bit_depth}")
    if bit_depth != 16 and all(spec.format.codec != "png" for spec in checked):
        raise OptionError(
            f"{bit_depth} bits are a choice for PNG, and no output is one; other formats have their own"
        )
    for spec in checked:
        _check_library(
            spec, like, frames=_frames_in_header(like, start, end), premultiplied=premultiplied
        )
    used = check_outputs(checked, like=like, inputs=inputs, overwrite=overwrite)

    def writer(spec: OutputSpec, partial: Path) -> _Writer:
        if spec.format.codec == "avif":
            return AvifWriter(spec, partial, like=like, audio=audio)
        if spec.format.is_movie:
            return MovieWriter(
                spec,
                partial,
                like=like,
                premultiplied=premultiplied,
                start=start,
                end=end,
                audio=audio,
                command=command,
            )
        return ImageWriter(
            spec,
            partial,
            like=like,
            premultiplied=premultiplied,
            bit_depth=bit_depth,
            overwrite=overwrite,
            inputs=used,
            command=command,
        )

    # Beside what a link leads to, so that renaming need not cross disks.
    finals = [Path(os.path.realpath(spec.path)) for spec in checked]
    partials = [partial_path(final) for final in finals]
    writers = [writer(spec, partial) for spec, partial in zip(checked, partials, strict=True)]
    return Outputs(writers, finals, partials, like=like, overwrite=overwrite, inputs=used)


def _check_library(
    spec: OutputSpec, like: VideoInfo, *, frames: int | None, premultiplied: bool
) -> None:
    if spec.format.codec == "exr":
        check_exr(like.color, alpha_only=spec.alpha_only)
    elif spec.format.codec == "avif":
        check_avif(spec, like, frames=frames, premultiplied=premultiplied)


def _frames_in_header(like: VideoInfo, start: Fraction | None, end: Fraction | None) -> int | None:
    """How many frames the headers promise between two times."""
    if like.frames_in_header is None:
        return None
    last = (
        like.frames_in_header
        if end is None
        else min(like.frames_in_header, math.ceil(end * like.frame_rate))
    )
    return last - math.floor((start or 0) * like.frame_rate)


def _as_spec(spec: OutputSpec | Path | str) -> OutputSpec:
    return spec if isinstance(spec, OutputSpec) else parse_output(spec, alpha_only=False)


class Outputs:
    """The outputs of one run. Each encodes in a thread of its own, a few batches behind.

    Leaving the `with` block completes them and puts all in place; leaving it with an exception removes all traces.
    """

    def __init__(
        self,
        writers: Sequence[_Writer],
        finals: Sequence[Path],
        partials: Sequence[Path],
        *,
        like: VideoInfo,
        overwrite: bool,
        inputs: InputFiles,
    ) -> None:
        self.files: tuple[WrittenFile, ...] = ()
        """What was written; empty until everything is in place."""
        self._writers = tuple(writers)
        self._finals, self._partials = finals, partials
        self._held: list[int] = []
        self._notes: list[str] = []
        self._threads: list[_EncodeThread] = []
        self._like = like
        self._overwrite = overwrite
        self._inputs = inputs
        self._new_folders: list[Path] = []
        self._last_pts: int | None = None
        self._beside: list[tuple[Path, Path]] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What an output could not take over from the source as it was, one sentence each."""
        return (*self._notes, *(note for writer in self._writers for note in writer.notes))

    def __enter__(self) -> Outputs:
        try:
            for writer, final, partial in zip(
                self._writers, self._finals, self._partials, strict=True
            ):
                try:
                    self._new_folders += create_folders(final.parent)
                    if removed := clean_stale(final):
                        self._notes.append(
                            f"{writer.spec}: removed what a killed run had left: {', '.join(removed)}"
                        )
                    writer.create()
                    self._hold(partial)
                except OSError as error:
                    raise writer.failure(error) from error
            for writer in self._writers:
                self._threads.append(_EncodeThread(writer, self._like))
        except BaseException as error:
            self._give_up(error)
            raise
        return self

    def write(self, mattes: MatteBatch | Mapping[str, MatteBatch]) -> None:
        """Take the next mattes, in order of presentation; waits while an encoder is behind.

        Mattes of several objects come by the names that the targets have, and are of the same frames.

        Raises WriteError when an output failed, now or with an earlier batch. The batch must not be changed afterwards.
        """
        if isinstance(mattes, MatteBatch):
            mattes = {writer.spec.object_name: mattes for writer in self._writers}
        batch = next(iter(mattes.values()))
        for writer in self._writers:
            if writer.format.is_movie:
                self._check_for_movie(batch, writer.spec)
        self._last_pts = batch.source.pts[-1]
        for thread, writer in zip(self._threads, self._writers, strict=True):
            layers = writer.spec.layers
            thread.put({name: mattes[name] for name in layers or (writer.spec.object_name,)})

    def append(self, parts: Sequence[EncodedPart]) -> None:
        """Take the next part of each output, in the order of the targets; in place of `write`. Raises WriteError."""
        for thread, part in zip(self._threads, parts, strict=True):
            thread.put(part)

    def add_to_commit(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Rename these files too, from what to what, when the outputs are put in place: all of them or none."""
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
        """Remove the folders that images were renamed from; what cannot be removed is only noted."""
        for writer, partial in zip(self._writers, self._partials, strict=True):
            try:
                writer.discard()
            except OSError as error:
                self._notes.append(f"{partial}: could not be removed ({error.strerror}); delete it")

    def _kept(self, failure: PlacementError) -> WriteError:
        """Keep outputs that are complete but cannot have their names, and say where they are."""
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
        return WriteError(
            f"{failure}; the finished output is kept as {names}: rename it yourself"
            if names
            else f"{failure}; the finished output is gone with its folder"
        )

    def _give_up(self, error: BaseException) -> None:
        """Remove all traces; raises WriteError in place of an error of ours where that was not possible."""
        for thread in self._threads:
            thread.stop()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):  # seen below
                writer.discard()
        self._let_go()
        remove_folders(self._new_folders)
        if left := [str(partial) for partial in self._partials if os.path.lexists(partial)]:
            advice = f"{', '.join(left)} could not be removed: delete it"
            if isinstance(error, VidmatteError):
                raise WriteError(f"{error}; {advice}") from error
            _log.warning(advice)


class _EncodeThread:
    """Runs a writer behind a bounded queue and carries its exception over."""

    def __init__(self, writer: _Writer, like: VideoInfo) -> None:
        self._writer = writer
        waiting = _QUEUED_BATCHES if like.width * like.height <= _LARGE_FRAME else 1
        self._queue: queue.Queue[Mapping[str, MatteBatch] | EncodedPart | None] = queue.Queue(
            waiting
        )
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._moves: list[tuple[Path, Path]] = []
        self._thread = threading.Thread(target=self._run, name=f"encode {writer.spec}", daemon=True)
        self._thread.start()

    def put(self, mattes: Mapping[str, MatteBatch] | EncodedPart | None) -> None:
        """Queue the next mattes by object, or the next part; raises what the writer raised."""
        while True:
            self._raise_error()
            with contextlib.suppress(queue.Full):
                self._queue.put(mattes, timeout=_POLL_SECONDS)
                return

    def end(self) -> None:
        """No batch follows: the writer completes its output."""
        self.put(None)

    def result(self) -> list[tuple[Path, Path]]:
        """Wait for the writer, and return what is to be renamed to what; raises what the writer raised."""
        self._join()
        self._raise_error()
        return self._moves

    def stop(self) -> None:
        """Drop what is queued, and wait until the writer has let go of its files."""
        self._stopped.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(
                None
            )  # wakes a thread that waits; a full queue wakes it by itself
        self._join()

    def _join(self) -> None:
        while self._thread.is_alive():
            self._thread.join(
                _POLL_SECONDS
            )  # a join without limit could not be interrupted everywhere

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        writer = self._writer
        try:
            while (mattes := self._queue.get()) is not None:
                if self._stopped.is_set():
                    return
                if isinstance(mattes, EncodedPart):
                    assert not isinstance(
                        writer, AvifWriter
                    )  # its format cannot be joined, see `Format.concatenable`
                    writer.append(mattes)
                else:
                    writer.write(mattes)
            if not self._stopped.is_set() and writer.frames:
                self._moves = writer.finish()
        except WriteError as error:
            self._error = error
        except (OSError, av.FFmpegError) as error:
            self._error = writer.failure(error)
            self._error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        finally:
            writer.close()
