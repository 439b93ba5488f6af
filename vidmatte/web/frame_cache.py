"""Frames of the clip for the page and the model: any frame quickly, marked frames at full size.

Full frames are read exactly, as a run reads them. While the user scrubs, the page shows small ones:
a thread reads the clip once, starting near the frame that is shown, and keeps a small JPEG of every
frame in a temporary file.
"""

from __future__ import annotations

import errno
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import ReadError
from vidmatte.frames import ColorTags, FrameBatch
from vidmatte.imaging.arrays import Bgr8
from vidmatte.imaging.display import to_display
from vidmatte.media.patterns import parse_pattern
from vidmatte.options import MaskFit
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.read import Video
from vidmatte.read.video import Frame, smaller
from vidmatte.web.project import ClipInfo, index_of

SMALL = 640
"""Longer side, in pixels, of the small frames that are kept of the whole clip."""
_CACHE_BYTES = 1 << 30
"""Disk space for small frames: 40 minutes of most footage. Later frames are read on demand."""
_WHOLE_FRAMES = 3
"""Full frames that are kept in memory."""
_NEAR = 12
"""Frames ahead of the last one read up to which decoding is faster than seeking."""
_QUALITY = 93
_SMALL_QUALITY = 82
"""Of JPEG, for full and small frames."""
_SEGMENT = 128
"""Frames that are read in one go, or more if key frames are further apart."""
_LONGEST = 16384
"""Largest side of a JPEG of a full frame: no frame is larger."""
_PAUSE_SECONDS = 0.05
_LOOSE_BYTES = 32 << 20
"""Of removed data that a file may hold before it is written anew."""


class FrameCache:
    """Frames of a clip, by index. Thread-safe."""

    def __init__(self, video: Video, mask_fit: MaskFit = "exact") -> None:
        self.video = video
        self._mask_fit = mask_fit
        self.clip_info = ClipInfo(
            video.count_frames(),
            video.info.display_width,
            video.info.height,
            video.first_number,
        )
        self._whole: OrderedDict[int, tuple[FrameBatch, FrameBatch | None]] = OrderedDict()
        self._as_seen: OrderedDict[int, tuple[Tensor, Tensor | None]] = OrderedDict()
        self._whole_lock = threading.Lock()
        self._small_lock = threading.Lock()
        self._reading: Iterator[Frame] | None = None
        self._next = -1
        self._last = 0
        # Requests of small frames that wait for the reader.
        self._asked = 0
        self._asked_lock = threading.Lock()
        self._disk_cache = DiskCache()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def whole(self, index: int) -> tuple[FrameBatch, FrameBatch | None]:
        """Return a full frame and its neighbour, as `Video.frame` and `Video.adjacent` do."""
        with self._whole_lock:
            if index not in self._whole:
                with self._explaining():
                    pair = list(self.video.batches(1, start=index, end=index + 2, prefetched=1))
                if not pair or pair[0].frames != (index,):
                    raise ReadError(f"{self.video.info.source}: frame {index} cannot be read")
                beside = pair[1] if len(pair) == 2 else self.video.adjacent(index)
                self._whole[index] = (pair[0], beside)
                while len(self._whole) > _WHOLE_FRAMES:
                    self._whole.popitem(last=False)
            self._whole.move_to_end(index)
            return self._whole[index]

    def reference(self, prompt: Prompt) -> Reference:
        """Return the reference of a prompt, as `prompts.reference.make_references` makes it."""
        index = index_of(prompt)
        rgb, adjacent = self._as_displayed(index)
        width = self.clip_info.width if self.clip_info.width != self.video.info.width else None
        reference = prompt.reference(
            rgb,
            display_width=width,
            frame=index,
            mask_fit=self._mask_fit,
            windows=self.video.info.windows,
        )
        # The same tensors for all marks of a frame: a model knows by them what it has seen.
        return replace(reference, rgb=rgb, adjacent=adjacent)

    def _as_displayed(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return a full frame and its neighbour (1, 3, H, W) as an SDR screen shows them."""
        with self._whole_lock:
            if index in self._as_seen:
                return self._as_seen[index]
        frame, beside = self.whole(index)
        color = self.video.info.color
        adjacent = None if beside is None else to_display(beside.rgb, color)
        seen = (to_display(frame.rgb, color), adjacent)
        with self._whole_lock:
            # Another thread may have been quicker.
            seen = self._as_seen.setdefault(index, seen)
            while len(self._as_seen) > _WHOLE_FRAMES:
                self._as_seen.popitem(last=False)
        return seen

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say so if the clip is gone; whatever the reader finds wrong then is no help."""
        try:
            yield
        except (ReadError, OSError) as error:
            source = Path(self.video.info.source)
            if parse_pattern(source) is None and not source.exists():
                raise ReadError(
                    f"{source}: was deleted or moved while it was open; put it back, or end the "
                    "picker: the marks are saved"
                ) from error
            raise

    def jpeg(self, index: int, longest: int = _LONGEST) -> bytes:
        """Return a frame as it is displayed, as JPEG; small ones come from the cache."""
        self._last = index
        if longest <= SMALL:
            kept = self._disk_cache.get(index)
            return kept if kept is not None else _encode(self._small(index, SMALL), _SMALL_QUALITY)
        frame, _ = self.whole(index)
        return _encode(self._displayed(frame.rgb[0].numpy(), longest), _QUALITY)

    def nearest_cached(self, index: int) -> int:
        """Return the index of the frame if it is cached, else of the key frame before it."""
        return (
            index if self._disk_cache.get(index) is not None else self.video.keyframe_before(index)
        )

    def proxy_frames(
        self, longest: int, start: int, end: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield index and pixels (1, 3, h, w) as the model sees them, of [start, end)."""
        frames = self.video.proxy_frames(longest, start=start)
        with self._explaining(), closing(cast("Any", frames)):
            for frame in islice(frames, max(0, end - start)):
                yield (
                    frame.index,
                    to_display(torch.from_numpy(frame.rgb)[None], self.video.info.color),
                )

    def prefetch_all(self, is_busy: Callable[[], bool]) -> None:
        """Start reading the whole clip, in a thread that pauses while `is_busy()`."""
        self._thread = threading.Thread(
            target=self._read_all, args=(is_busy,), name="vidmatte-small", daemon=True
        )
        self._thread.start()

    @property
    def kept(self) -> int:
        """How many small frames are cached."""
        return len(self._disk_cache)

    def wait(self) -> None:
        """Wait until the reading thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop reading, and remove the cache."""
        self._stopped.set()
        self.wait()
        with self._small_lock:
            self._leave()
        self._disk_cache.close()

    def _small(self, index: int, longest: int) -> Bgr8:
        """Return a frame by decoding on from the last one, or seeking; prefetching pauses."""
        with self._asked_lock:
            self._asked += 1
        try:
            with self._explaining():
                return self._sought(index, longest)
        finally:
            with self._asked_lock:
                self._asked -= 1

    def _sought(self, index: int, longest: int) -> Bgr8:
        with self._small_lock:
            if self._reading is None or not self._next <= index < self._next + _NEAR:
                self._leave()
                self._reading = self.video.proxy_frames(longest, start=index)
                self._next = index
            for frame in self._reading:
                self._next = frame.index + 1
                if frame.index >= index:
                    return self._displayed(frame.rgb, longest)
            self._leave()
        raise ReadError(f"{self.video.info.source}: frame {index} cannot be read")

    def _leave(self) -> None:
        if self._reading is not None and hasattr(self._reading, "close"):
            self._reading.close()
        self._reading = None

    def _read_all(self, is_busy: Callable[[], bool]) -> None:
        left = self._segments()
        try:
            while left:
                # Frames near the one that was shown last are wanted first.
                segment = min(left, key=lambda part: _distance(part, self._last))
                left.remove(segment)
                if not self._read(segment, is_busy):
                    return
        except (ReadError, OSError):
            # A damaged clip, or a full disk: requests of single frames will report it.
            return

    def _segments(self) -> list[range]:
        """Return the parts of the clip that can be read independently."""
        starts = sorted(
            {
                self.video.keyframe_before(index)
                for index in range(0, self.clip_info.frames, _SEGMENT)
            }
        )
        return [range(a, b) for a, b in pairwise([*starts, self.clip_info.frames])]

    def _read(self, segment: range, is_busy: Callable[[], bool]) -> bool:
        """Cache the frames of a part; return whether there is time and room for another."""
        frames = self.video.proxy_frames(SMALL, start=segment.start)
        with closing(cast("Any", frames)):
            for frame in islice(frames, len(segment)):
                self._disk_cache.put(
                    frame.index, _encode(self._displayed(frame.rgb, SMALL), _SMALL_QUALITY)
                )
                while (is_busy() or self._asked) and not self._stopped.is_set():
                    self._stopped.wait(_PAUSE_SECONDS)
                if self._stopped.is_set() or self._disk_cache.bytes > _CACHE_BYTES:
                    return False
        return True

    def _displayed(self, rgb: NDArray[np.float32], longest: int) -> Bgr8:
        """Return a frame (3, h, w) as an SDR screen shows it: square pixels, at most `longest`."""
        shown = to_display(torch.from_numpy(rgb), self.video.info.color).numpy()
        picture = cv2.cvtColor(
            (cv2.merge(list(shown)) * 255 + 0.5).astype(np.uint8), cv2.COLOR_RGB2BGR
        )
        size = smaller(self.clip_info.width, self.clip_info.height, longest)
        if size != (picture.shape[1], picture.shape[0]):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return np.asarray(picture, np.uint8)


class DiskCache:
    """Small data by key in a temporary file. Thread-safe."""

    def __init__(self, most: int | None = None) -> None:
        """Take the largest number of bytes to hold; None for as many as the disk has."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._most = most
        self._lock = threading.Lock()
        self._entries: dict[Any, tuple[int, int]] = {}
        self._held = 0
        self.bytes = 0
        """Size of the file."""

    def put(self, key: object, data: bytes) -> None:
        """Keep data in place of what had the key before.

        Raises OSError if the disk or the allotted space is full.
        """
        with self._lock:
            if self._file.closed:
                return
            self._remove(key)
            if self._most is not None and self._held + len(data) > self._most:
                raise OSError(errno.ENOSPC, f"its {self._most >> 20} MB are used up")
            self._file.seek(self.bytes)
            self._file.write(data)
            self._entries[key] = (self.bytes, len(data))
            self._held += len(data)
            self.bytes += len(data)
            self._compact()

    def get(self, key: object) -> bytes | None:
        """Return the data of a key, None if there is none."""
        with self._lock:
            if key not in self._entries or self._file.closed:
                return None
            offset, size = self._entries[key]
            self._file.seek(offset)
            return self._file.read(size)

    def drop(self, goes: Callable[[Any], bool]) -> None:
        """Remove the data of all keys for which `goes(key)`."""
        with self._lock:
            for key in [key for key in self._entries if goes(key)]:
                self._remove(key)
            self._compact()

    def _remove(self, key: object) -> None:
        _, size = self._entries.pop(key, (0, 0))
        self._held -= size

    def _compact(self) -> None:
        """Give back the space of what was removed, once it is the larger part of the file."""
        if self._file.closed or self.bytes - self._held <= max(self._held, _LOOSE_BYTES):
            return
        smaller_file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        entries = {}
        for key, (offset, size) in self._entries.items():
            self._file.seek(offset)
            entries[key] = (smaller_file.tell(), size)
            smaller_file.write(self._file.read(size))
        self._file.close()
        self._file, self._entries, self.bytes = smaller_file, entries, self._held

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._file.close()


def _distance(part: range, frame: int) -> int:
    """Return how many frames a frame is outside of a part of the clip."""
    return max(part.start - frame, frame - part.stop + 1, 0)


def color_jpeg(rgb: torch.Tensor, color: ColorTags, size: tuple[int, int]) -> bytes:
    """Return colour (3, H, W) at a size (width, height) as JPEG, as an SDR screen shows it."""
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in rgb.numpy()]
    shown = to_display(torch.from_numpy(np.stack(planes)), color).numpy()
    codes = (cv2.merge(list(shown[::-1])) * 255 + 0.5).astype(np.uint8)
    return _encode(np.asarray(codes, np.uint8), _SMALL_QUALITY)


def _encode(picture: Bgr8, quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
