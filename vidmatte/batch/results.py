"""The results of a batch: a JSON object on each line; the last one of a shot counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidmatte.errors import WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.pipeline.segments.fingerprint import FileFingerprint


class Results:
    """The outcomes of shots, of this run and earlier ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: dict[str, Mapping[str, Any]] = {}
        self._completed: dict[str, Mapping[str, Any]] = {}
        self._read()

    def last(self, shot: str) -> Mapping[str, Any]:
        """Return the last line of a shot, empty if there is none."""
        return self._last.get(shot, {})

    def completed(self, shot: str) -> Mapping[str, Any] | None:
        """Return the line of the shot's last completion."""
        return self._completed.get(shot)

    def file_fingerprints(self, shot: str) -> Mapping[str, FileFingerprint]:
        """Return the fingerprints of files read for a shot before."""
        known = self.last(shot).get("file_fingerprints") or (self.completed(shot) or {}).get(
            "file_fingerprints", {}
        )
        return {path: (size, changed, digest) for path, (size, changed, digest) in known.items()}

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a line, and bring it to the disk. Raises WriteError."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
                file.flush()
                # A power cut must not lose the outcome of hours.
                os.fsync(file.fileno())
        except OSError as error:
            raise WriteError(
                f"{self.path}: cannot be written ({error.strerror}); choose another file"
            ) from error
        self._keep(record)

    def _keep(self, record: Mapping[str, Any]) -> None:
        self._last[record["shot"]] = record
        # A later failure does not undo a completed run: its outputs are still there.
        if record["state"] == "done":
            self._completed[record["shot"]] = record

    def _read(self) -> None:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise WriteError(
                f"{self.path}: cannot be read ({reason}); choose another file with --results"
            ) from error
        whole, _, torn = text.rpartition("\n")
        if torn:  # a run was killed in the middle of a line
            atomic_write(self.path, whole + "\n" * bool(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._keep(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise WriteError(
                    f"{self.path}: line {number} is not a result of a batch; choose another "
                    f"file with --results"
                ) from error
