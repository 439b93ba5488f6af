"""Encode an output in a thread of its own, a few batches behind."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import av

from vidmatte.errors import WriteError
from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.write.avif import AvifWriter
from vidmatte.write.images import ImageWriter
from vidmatte.write.movie import MovieWriter
from vidmatte.write.part import EncodedPart

Writer: TypeAlias = MovieWriter | ImageWriter | AvifWriter

_QUEUED_BATCHES = 2
"""Largest number of waiting batches; one if frames are large."""
_LARGE_FRAME = 1 << 20
"""Pixels of a large frame."""
_POLL_SECONDS = 0.1


class EncodeThread:
    """Run a writer behind a bounded queue, and raise its exception in the caller's thread."""

    def __init__(self, writer: Writer, like: VideoInfo) -> None:
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
        """Queue the next mattes by object, or the next part; raise an error of the writer."""
        while True:
            self._raise_error()
            # A full queue is polled, so that an error of the writer ends the wait.
            with contextlib.suppress(queue.Full):
                self._queue.put(mattes, timeout=_POLL_SECONDS)
                return

    def end(self) -> None:
        """Let the writer complete its output, as no batch follows."""
        self.put(None)

    def result(self) -> list[tuple[Path, Path]]:
        """Wait for the writer, and return its renames (from, to).

        Raises the error of the writer, if there was one.
        """
        self._join()
        self._raise_error()
        return self._moves

    def stop(self) -> None:
        """Drop the queue, and wait until the writer has released its files."""
        self._stopped.set()
        with contextlib.suppress(queue.Full):
            # Wakes a thread that waits for a batch; with a full queue it does not wait.
            self._queue.put_nowait(None)
        self._join()

    def _join(self) -> None:
        while self._thread.is_alive():
            # Ctrl-C does not interrupt an endless join on every system.
            self._thread.join(_POLL_SECONDS)

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
                    # AVIF cannot be joined, see `Format.concatenable`.
                    assert not isinstance(writer, AvifWriter)
                    writer.append(mattes)
                else:
                    writer.write(mattes)
            # A writer without a frame has no file to complete; `Outputs` reports it.
            if not self._stopped.is_set() and writer.frames:
                self._moves = writer.finish()
        except WriteError as error:
            self._error = error
        except (OSError, av.FFmpegError) as error:
            self._error = writer.failure(error)
            # The thread has no caller: the cause is set by hand, for tracebacks.
            self._error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        finally:
            writer.close()
