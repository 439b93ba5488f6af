"""Collect the report of a run while its mattes stream by, and write it whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from torch import Tensor

from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.imaging.display import to_display
from vidmatte.model.interface import Predictor, SupportsGuidance
from vidmatte.read import Video
from vidmatte.report.invocation import Invocation
from vidmatte.report.page import page
from vidmatte.report.sheets import contact_sheet, guidance_sheet, strip, to_jpeg
from vidmatte.report.summary import Summary, suggested_apart
from vidmatte.report.thumbnails import Thumbnail, Thumbnails, evenly, for_sheet
from vidmatte.write import check_folder
from vidmatte.write.folders import check_name, create_folders, remove_folders
from vidmatte.write.identity import InputFiles
from vidmatte.write.partial import clean_stale, lock, partial_path

PAGE, SHEET, TABLE, GUIDANCE = "report.html", "contact_sheet.jpg", "confidence.csv", "guidance.jpg"
_EXPLAINED = 6
"""Frames on the sheet of guidance maps: each costs one more pass of the network."""


def create_report(
    invocation: Invocation,
    *,
    like: VideoInfo,
    references: Sequence[int],
    inputs: Sequence[Path | str],
    first_number: int = 0,
    start: Fraction = Fraction(0),
    overwrite: bool = False,
) -> Report:
    """Return a report to enter with `with`; nothing is created yet.

    Args:
        invocation: The run; `invocation.report` is the folder of the report.
        like: The source.
        references: Numbers of the marked frames of the source.
        inputs: Input files, folders and patterns.
        first_number: Number of the first frame of the source.
        start: Time of the first matted frame, in seconds after the first frame of the source.
        overwrite: Replace an existing report.

    Raises:
        OptionError: the folder is also an input or an output.
        WriteError: the folder cannot be written, or holds a report and `overwrite` is False.
    """
    folder = _folder(invocation)
    # lexists: a broken link has this name, too.
    if os.path.lexists(folder) and not folder.is_dir():
        raise WriteError(f"{folder}: is not a folder, but a report is one; choose another name")
    check_folder(folder, asked=folder)
    used = InputFiles.of(inputs)
    outputs = [Path(spec.path).resolve() for spec in invocation.specs]
    is_input = os.path.isdir(folder) and any(map(_is_folder(folder), inputs))
    # An input may be one of the files that a report would replace.
    is_replaced = any(used.find(folder / name) for name in (PAGE, SHEET, TABLE, GUIDANCE))
    if is_input or is_replaced or folder.resolve() in outputs:
        raise OptionError(
            f"{folder}: is also an input or an output; choose another folder for the report"
        )
    existing = [name for name in (PAGE, SHEET, TABLE, GUIDANCE) if os.path.lexists(folder / name)]
    if existing and not overwrite:
        raise WriteError(
            f"{folder / existing[0]} exists already; use --overwrite to replace the report, "
            f"or choose another folder"
        )
    check_name(folder / PAGE, asked=folder)
    return Report(
        invocation, like=like, references=references, first_number=first_number, start=start
    )


def _is_folder(folder: Path) -> Callable[[Path | str], bool]:
    """Return a test whether a path leads to a folder."""
    return lambda path: os.path.exists(path) and os.path.samefile(path, folder)


def _folder(invocation: Invocation) -> Path:
    assert invocation.report is not None  # a report was asked for
    return invocation.report


class Report:
    """Take the mattes of a run in order, and write the files of the report at its end.

    The files go to a hidden folder, and are put in place together with the outputs. Leaving the
    `with` block removes the folder if that did not happen.
    """

    def __init__(
        self,
        invocation: Invocation,
        *,
        like: VideoInfo,
        references: Sequence[int],
        first_number: int,
        start: Fraction,
    ) -> None:
        self.folder = _folder(invocation)
        self._invocation = invocation
        self._time_base = like.time_base
        self._start = start
        apart = suggested_apart(is_set=invocation.images)
        self._thumbnails = Thumbnails(
            pixel_aspect=like.sample_aspect_ratio,
            references=references,
            apart=apart,
            first_number=first_number,
            color=like.color,
        )
        self._taken: list[Thumbnail] = []
        self._pts: list[int] = []
        self._names: list[str] = []
        # A new folder is renamed as a whole, an existing one gets the files.
        self._is_new = not self.folder.exists()
        self._final = self.folder if self._is_new else self.folder / PAGE
        self._partial = partial_path(self._final)
        self._held: int | None = None
        self._replaced: list[Path] = []
        self._new_folders: list[Path] = []

    def __enter__(self) -> Report:
        try:
            self._new_folders = create_folders(self._final.parent)
            clean_stale(self._final)
            self._partial.mkdir()
            # Held, so that another run does not take the folder for a stale one.
            self._held = lock(self._partial)
        except OSError as error:
            # Folders made for nothing are removed again.
            remove_folders(self._new_folders)
            raise self._failure(error) from error
        return self

    def add(self, batch: MatteBatch) -> None:
        """Take the next mattes, in the order of the source."""
        self._pts.extend(batch.source.pts)
        self._names.extend(batch.source.names)
        self._thumbnails.add(batch)

    def take(
        self, *, pts: Sequence[int], names: Sequence[str], thumbnails: Sequence[Thumbnail]
    ) -> None:
        """Take frames matted before, with their thumbnails; in place of `add`."""
        self._pts.extend(pts)
        self._names.extend(names)
        self._taken.extend(thumbnails)

    def write(
        self, summary: Summary, *, predictor: Predictor, video: Video
    ) -> list[tuple[Path, Path]]:
        """Write all files, and return the renames (from, to) to put them in place.

        A predictor that `SupportsGuidance` is asked for the guidance of a few frames of `video`.
        Raises WriteError.
        """
        suggested = summary.suggested_reference_frames
        thumbnails = (
            for_sheet(self._taken, suggested) if self._taken else self._thumbnails.sheet(suggested)
        )
        sheet = to_jpeg(
            contact_sheet(thumbnails, references=summary.reference_frames, suggested=suggested)
        )
        explained = (
            _explained(predictor, video, thumbnails)
            if isinstance(predictor, SupportsGuidance)
            else None
        )
        guidance = None if explained is None else to_jpeg(guidance_sheet(explained))
        strips = {
            shown.frame: to_jpeg(strip(shown)) for shown in thumbnails if shown.frame in suggested
        }
        text = page(summary, self._invocation, strips=strips, sheet=sheet, guidance=guidance)
        files = {
            SHEET: sheet,
            # Names of files may hold bytes that are not UTF-8.
            TABLE: self._table(summary).encode(errors="replace"),
            PAGE: text.encode(errors="replace"),
        }
        # Maps of an earlier report would not belong to this run.
        if guidance is None:
            self._replaced = [self.folder / GUIDANCE]
        else:
            files[GUIDANCE] = guidance
        try:
            for name, data in files.items():
                _write(self._partial / name, data)
        except OSError as error:
            raise self._failure(error) from error
        if self._is_new:
            return [(self._partial, self.folder)]
        return [(self._partial / name, self.folder / name) for name in files]

    def _table(self, summary: Summary) -> str:
        """Return a CSV table of all frames.

        `seconds` counts from the first frame of the source; it is empty for images of a set.
        """
        file = io.StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            [
                "frame",
                "seconds",
                "confidence",
                "is_reference",
                "is_suggested",
                *(["name"] * summary.is_set),
            ]
        )
        for index, confidence in enumerate(summary.confidence):
            frame = summary.first_frame + index
            # Of variable frame rates, too: times come from the file.
            seconds = self._start + (self._pts[index] - self._pts[0]) * self._time_base
            marks = [
                int(frame in frames)
                for frames in (summary.reference_frames, summary.suggested_reference_frames)
            ]
            when = "" if summary.is_set else f"{float(seconds):.6f}"
            rows.writerow(
                [frame, when, f"{confidence:.4f}", *marks, *self._names[index : index + 1]]
            )
        return file.getvalue()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._held is not None:
            os.close(self._held)
        if self._partial.is_dir():
            shutil.rmtree(self._partial, ignore_errors=True)
        remove_folders(self._new_folders)  # those that a report lies in are not empty
        # Only after a success, like the replacement of outputs.
        if kind is None:
            for path in self._replaced:
                path.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> WriteError:
        return WriteError(
            f"{self.folder}: the report cannot be written ({error.strerror}); "
            f"check the free space and the rights of {self._partial.parent.absolute()}"
        )


def _explained(
    predictor: SupportsGuidance, video: Video, thumbnails: Sequence[Thumbnail]
) -> list[tuple[Thumbnail, Mapping[str, Tensor]]]:
    """Read some of the frames again, and return them with the model's guidance maps."""
    found = []
    for thumbnail in evenly(thumbnails, _EXPLAINED):
        frame = video.frame(thumbnail.frame - video.first_number)
        # As the model saw it: HDR and scene-linear footage toned to an ordinary screen.
        found.append(
            (
                thumbnail,
                predictor.guidance(replace(frame, rgb=to_display(frame.rgb, video.info.color))),
            )
        )
    return found


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        # On disk before it is renamed, or a crash would leave an empty file.
        os.fsync(file.fileno())
