"""Write one image per frame, PNG or EXR, to a hidden folder until all are complete."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from vidmatte.errors import WriteError
from vidmatte.frames import ColorSpace, MatteBatch, VideoInfo
from vidmatte.imaging.display import for_output
from vidmatte.imaging.transfer import linear_to_srgb
from vidmatte.threads import current
from vidmatte.write.exr import layer_names, space_of_output, write_exr
from vidmatte.write.identity import InputFiles
from vidmatte.write.part import EncodedPart
from vidmatte.write.planes import packed_codes, premultiply
from vidmatte.write.specs import OutputSpec

_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_PIXEL_FORMATS = {
    (False, 8): "rgba",
    (False, 16): "rgba64be",
    (True, 8): "gray",
    (True, 16): "gray16be",
}
_EXR_SUFFIX = {"half": "f16", "float": "f32"}
_PNG_HEADER = 33
"""Bytes of the signature and the first chunk, IHDR."""


class ImageWriter:
    """Encode batches into a folder of images.

    Used from one thread; `discard` may be called from another one afterwards.
    """

    kind: Literal["colour", "alpha"]

    def __init__(
        self,
        spec: OutputSpec,
        partial: Path,
        *,
        like: VideoInfo,
        premultiplied: bool,
        bit_depth: int,
        overwrite: bool,
        inputs: InputFiles,
        command: str,
        weights: str = "",
        space: ColorSpace | None = None,
    ) -> None:
        self.spec = spec
        self.kind = "alpha" if spec.alpha_only else "colour"
        self.format = spec.format
        self._is_png = self.format.codec == "png"
        if self._is_png:
            self.pixel_format = _PIXEL_FORMATS[spec.alpha_only, bit_depth]
        else:
            self.pixel_format = self.format.pixel_format.replace(
                "f16", _EXR_SUFFIX[self.format.options["pixels"]]
            )
        self.notes: list[str] = []
        # Of EXR; without a name it holds light with the primaries of the source.
        self._space = None
        if not self._is_png and not spec.alpha_only:
            self._space = space_of_output(like.color, space)
            if self._space is not None:
                self.notes.append(f"{spec}: colour is in {self._space.name}, as its header says")
        renamed = [
            f"{name} is {layer}"
            for name, layer in zip(spec.layers, layer_names(spec.layers), strict=True)
            if name != layer
        ]
        if renamed:
            self.notes.append(f"{spec}: the names of layers fit all programs: {', '.join(renamed)}")
        self._partial = partial
        self._like = like
        self._premultiplied = premultiplied
        self._max_code = 2**bit_depth - 1
        self._overwrite = overwrite
        self._inputs = inputs
        self._command, self._weights = command, weights
        self._names: set[str] = set()
        # Side by side: no codec uses several threads for one image.
        self._at_once = current().images
        self._encoders = ThreadPoolExecutor(self._at_once, thread_name_prefix=f"images {spec}")
        self._waiting: deque[Future[None]] = deque()

    @property
    def frames(self) -> int:
        """Images written so far."""
        return len(self._names)

    def create(self) -> None:
        """Create the hidden folder. Raises OSError."""
        self._partial.mkdir()

    def write(self, mattes: Mapping[str, MatteBatch]) -> None:
        """Encode the frames of the output's object, or of all its layers.

        Raises WriteError, or OSError of a file.
        """
        source = next(iter(mattes.values())).source
        for index, frame in enumerate(source.frames):
            name = self._name(frame, source.names[index] if source.names else "")
            layers = {
                layer: (None if self.spec.alpha_only else batch.color[index], batch.alpha[index])
                for layer, batch in mattes.items()
            }
            # Frames that wait for an encoder are held in memory: no more of them than encoders.
            self._wait(most=self._at_once - 1)
            self._waiting.append(
                self._encoders.submit(self._write_image, self._partial / name, layers, frame)
            )
            self._names.add(name)

    def append(self, part: EncodedPart) -> None:
        """Take the images of a part, made with the same options. Raises the errors of `write`."""
        for index in range(len(part.pts)):
            name = self._name(part.first_frame + index, part.names[index] if part.names else "")
            _link_or_copy(part.path / name, self._partial / name)
            self._names.add(name)

    def finish(self) -> list[tuple[Path, Path]]:
        """Wait until all is written, and return the renames (from, to).

        Images of an earlier run among the new ones become a note.
        """
        self._wait(most=0)
        folder = self.spec.folder
        pattern = self.spec.file_names
        # Names of a set follow no pattern, so older images cannot be told apart.
        there = set() if self.spec.is_named else set(filter(pattern.fullmatch, os.listdir(folder)))
        stale = sorted(there - self._names)
        if stale:
            self.notes.append(
                f"{self.spec}: {len(stale)} older images stay there, the first is {stale[0]}"
            )
        return [(self._partial / name, folder / name) for name in sorted(self._names)]

    def close(self) -> None:
        """Wait for the images that are being encoded."""
        self._encoders.shutdown(cancel_futures=True)

    def discard(self) -> None:
        """Remove the hidden folder with all that is left in it."""
        if self._partial.exists():
            shutil.rmtree(self._partial)

    def failure(self, error: Exception) -> WriteError:
        """Return the error to raise for one of a file."""
        reason = getattr(error, "strerror", None) or str(error)
        return WriteError(
            f"{self.spec}: writing failed after {self.frames} images ({reason}); "
            f"no output was written; check the free space and the rights of "
            f"{self.spec.folder.absolute()}"
        )

    def _wait(self, *, most: int) -> None:
        """Wait until at most `most` images are being encoded; raise the error of a failed one."""
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _write_image(
        self, path: Path, layers: Mapping[str, tuple[Tensor | None, Tensor]], frame: int
    ) -> None:
        if self._is_png:
            self._write_png(path, *layers[self.spec.object_name])
        elif self.spec.layers:
            self._write_exr(path, layers, frame)
        else:
            self._write_exr(path, {"": layers[self.spec.object_name]}, frame)

    def _name(self, frame: int, stem: str) -> str:
        """Return the file name of an image. Raises WriteError if it cannot be used."""
        if self.spec.is_named and not stem:
            raise WriteError(
                f"{self.spec}: the frames of a clip have no names; use %06d in place of {{name}}"
            )
        # An output of frames 10 to 20 has their numbers in the source sequence.
        number = frame + (self._like.first_number or 0)
        name = self.spec.image_name(number=number, name=stem)
        path = self.spec.folder / name
        if name in self._names:
            raise WriteError(f"{path}: two images of the set have this name; rename one of them")
        if self._inputs.find(path) is not None:
            raise WriteError(
                f"{path}: is also an input, and would be written over; "
                f"choose another folder or name"
            )
        # Names of a set are not all known before the run; those of a clip are checked at both ends.
        if self.spec.is_named and not self._overwrite and path.exists():
            raise WriteError(
                f"{path}: exists already; use --overwrite to replace it, or choose another name"
            )
        return name

    def _write_png(self, path: Path, color: Tensor | None, alpha: Tensor) -> None:
        # Encoded to memory: imwrite would report a full disk as False, without a reason.
        done, data = cv2.imencode(".png", self._picture(color, alpha), _FAST)
        if not done:
            raise WriteError(
                f"{self.spec}: OpenCV cannot encode a PNG of "
                f"{alpha.shape[2]}x{alpha.shape[1]} pixels; choose another format"
            )
        png = data.tobytes()
        icc = self._like.color.icc
        if color is not None and icc is not None:
            # OpenCV writes no profile; the chunk belongs before the picture data.
            png = _with_profile(png, icc)
        with open(path, "wb") as file:
            file.write(png)
            file.flush()
            os.fsync(file.fileno())

    def _write_exr(
        self, path: Path, layers: Mapping[str, tuple[Tensor | None, Tensor]], frame: int
    ) -> None:
        try:
            write_exr(
                path,
                layers,
                self._like,
                frame=frame,
                options=self.format.options,
                command=self._command,
                weights=self._weights,
                space=self._space,
            )
        except WriteError as error:
            raise self.failure(error) from error
        # OpenEXR closes the file without fsync.
        with open(path, "rb+") as file:
            os.fsync(file.fileno())

    def _picture(self, color: Tensor | None, alpha: Tensor) -> npt.NDArray[Any]:
        """Return (H, W) alpha, or (H, W, 4) blue, green, red and alpha, in code values.

        Colour is cleared where alpha is 0.
        """
        dtype = np.uint8 if self._max_code == 255 else np.uint16
        if color is None:
            gray: npt.NDArray[Any] = (
                (alpha[0] * self._max_code).round_().clamp_(0, self._max_code).numpy().astype(dtype)
            )
            return gray
        # PNG holds a profile but no tags, so tagged colour is converted to sRGB.
        color = for_output(color, self._like.color, linear_to_srgb, holds="profile")
        if self._premultiplied:
            color = premultiply(color, alpha, max_code=self._max_code)
        return packed_codes(
            color,
            alpha[0],
            order="bgra",
            dtype=dtype,
            zero_rgb_where_transparent=self.format.zero_rgb_where_transparent,
        )


def _with_profile(png: bytes, icc: bytes) -> bytes:
    """Return a PNG with the colour profile of its code values (PNG, 11.3.2.3)."""
    # One byte for the end of the name, one for the method: zlib.
    content = b"iCCP" + b"profile\0\0" + zlib.compress(icc)
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_PNG_HEADER] + chunk + png[_PNG_HEADER:]


def _link_or_copy(path: Path, name: Path) -> None:
    """Give an image a second name, or copy it if the file system has no links.

    The part stays whole, for another attempt to join it.
    """
    try:
        os.link(path, name)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
