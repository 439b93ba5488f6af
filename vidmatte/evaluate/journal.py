"""Results so far, a line for each part, for resuming a stopped run."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidmatte.errors import OptionError, WriteError
from vidmatte.media.atomic import atomic_write

_log = logging.getLogger(__name__)
LINES = "results.jsonl"
IDENTITY = "run.json"
PICTURES = "pictures"
MATTES = "mattes"


@dataclass(frozen=True)
class Result:
    """The measures of one image or clip, in one round."""

    group: str
    """Name of the group, or of the clip."""
    sample: str
    """Name of the image; empty for a clip."""
    round: int
    values: Mapping[str, float]
    """By measure, in its scale."""
    confidence: float | None = None
    """Confidence of the model; None for given mattes."""
    by_frame: Sequence[float] = ()
    """Of a clip, the ranking measure of each counted frame; of clicks, J after each."""
    frames: Sequence[int] = ()
    """Indices of those frames, or numbers of those clicks."""
    pictures: Sequence[tuple[str, str]] = ()
    """Captions, and paths from the folder of the run."""

    @property
    def name(self) -> str:
        """Group and sample, or one of them if they are the same."""
        if self.sample and self.sample != self.group:
            return f"{self.group}/{self.sample}"
        return self.group


@dataclass
class Journal:
    """The results of a folder. Use it through `open_journal`."""

    folder: Path
    done: dict[str, list[Result]] = field(default_factory=dict)
    """By the key of their part."""

    def add(self, key: str, results: Sequence[Result]) -> None:
        """Write the results of a part to the disk. Raises WriteError."""
        line = json.dumps({"part": key, "results": [asdict(result) for result in results]})
        try:
            with open(self.folder / LINES, "a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _failure(self.folder, error) from error
        self.done[key] = list(results)


def open_journal(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> Journal:
    """Open the journal of a folder; create the folder if it is missing.

    A run of the same `identity` is resumed.

    Raises:
        OptionError: the folder holds the results of another run, and `overwrite` was not given.
        WriteError: it cannot be written.
    """
    try:
        if overwrite or not _goes_on(folder, identity):
            # Of another run (`overwrite`), or from before files changed.
            _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if _before(folder) is None:
            # Never mixed with files of others, which a later run might remove.
            if any(folder.iterdir()):
                raise OptionError(
                    f"{folder}: holds other files than those of an evaluation; choose another "
                    f"folder (-o)"
                )
            atomic_write(folder / IDENTITY, json.dumps(identity, indent=2) + "\n")
        (folder / PICTURES).mkdir(exist_ok=True)
        return Journal(folder, _read(folder / LINES))
    except OSError as error:
        raise _failure(folder, error) from error


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run, and nothing else."""
    if _before(folder) is None:
        return
    for name in (PICTURES, MATTES):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (LINES, IDENTITY):
        (folder / name).unlink(missing_ok=True)


def _before(folder: Path) -> dict[str, Any] | None:
    """Return the stored identity of an evaluation: empty if damaged, None if there is none.

    A checkpoint of training has a file of this name, too.
    """
    try:
        found = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        # A checkpoint of training beside it means that the file is not ours.
        return None if any(folder.glob("*.safetensors")) else {}
    return found if isinstance(found, dict) and "subject" in found else None


def _goes_on(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Tell whether the results in a folder still hold: not if files changed since.

    Raises OptionError for the results of another run.
    """
    before = _before(folder)
    if before is None:
        return True
    # As it comes back from a file: tuples are lists there.
    now = json.loads(json.dumps(identity))
    differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if differing == ["files"]:
        _log.warning(
            "%s: the data, the mattes or the weights have changed since: all is measured again",
            folder,
        )
        return False
    if differing:
        raise OptionError(
            f"{folder}: holds the results of another run ({differing[0]} was "
            f"{before.get(differing[0])!r}, now {now.get(differing[0])!r}); choose another folder "
            f"(-o), or use --overwrite to replace them"
        )
    return True


def _read(path: Path) -> dict[str, list[Result]]:
    """Read the results by part; an incomplete last line is removed from the file."""
    if not path.is_file():
        return {}
    text = path.read_bytes()
    # A killed run may have left half a line.
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        atomic_write(path, whole)
    done = {}
    for line in whole.decode().splitlines():
        record = json.loads(line)
        done[record["part"]] = [
            Result(**{**result, "pictures": [(a, b) for a, b in result["pictures"]]})
            for result in record["results"]
        ]
    return done


def _failure(folder: Path, error: OSError) -> WriteError:
    return WriteError(
        f"{folder}: the results cannot be written ({error.strerror}); what is done is kept: free "
        f"some space or check the rights, and start the same command again"
    )
