"""Prompts mark an object on a reference image: points, strokes, a box or a mask.

Plain values: loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmatte.errors import PromptError
from vidmatte.options import EXTENTS, Extent

if TYPE_CHECKING:
    from torch import Tensor

    from vidmatte.frames import ColorTags, Windows
    from vidmatte.options import MaskEdge, MaskFit
    from vidmatte.prompts.arrays import MaskArray
    from vidmatte.read.memory import ImageLike

OBJECT, BACKGROUND, UNKNOWN = 1, 0, -1
"""Labels of points and strokes, and of pixels that are not marked."""


@dataclass(frozen=True, eq=False)
class Mark:
    """One mark of a prompt as it is drawn: a box, an image of strokes, a stroke or a point."""

    labels: Tensor
    """(h, w) int8 of a rectangle of the frame: 1 object, 0 background, -1 not marked."""
    left: int = 0
    """First column of the rectangle in the frame."""
    top: int = 0
    """Its first row."""

    @property
    def is_object(self) -> bool:
        """Whether any of it is on the object."""
        return bool((self.labels == OBJECT).any())

    def draw(self, alpha: Tensor, known: Tensor) -> None:
        """Draw it on the alpha and the known pixels of its frame, both (H, W), in place."""
        height, width = self.labels.shape
        there = slice(self.top, self.top + height), slice(self.left, self.left + width)
        alpha[there][self.labels == OBJECT] = 1
        alpha[there][self.labels == BACKGROUND] = 0
        known[there][self.labels != UNKNOWN] = 1

    def is_same(self, other: Mark) -> bool:
        """Return whether another mark is drawn alike."""
        place = (self.left, self.top, self.labels.shape)
        if place != (other.left, other.top, other.labels.shape):
            return False
        return bool((self.labels == other.labels).all())


_TRIMAP_SHARE = 0.5
"""Least share of known pixels of a trimap. Marks are few, and a box knows no object."""


@dataclass(frozen=True)
class Reference:
    """An image with its object marked, to which a model matches every other image."""

    rgb: Tensor
    """(1, 3, H, W) float32 in 0..1, display-referred."""
    alpha: Tensor
    """(1, 1, H, W) float32 in 0..1: the object where it is known, 0 elsewhere."""
    known: Tensor
    """(1, 1, H, W) float32: 1 if `alpha` of a pixel was given, 0 if the model has to find it. All
    ones for a mask."""
    frame: int | None = None
    """0-based index in the clip that is matted; None when the reference is another image."""
    adjacent: Tensor | None = None
    """(1, 3, H, W) the frame beside it in its clip, as motion helps to tell the object; None for a
    still."""
    mask_edge: MaskEdge = "soft"
    """Of a mask: "soft" finds its edge anew in the image, "hard" keeps the mask as it is."""
    steps: tuple[Mark, ...] = ()
    """The marks that `alpha` and `known` are made of, in their order, so that a model can answer
    them one after the other; empty if only the planes are known."""
    extent: Extent | None = None
    """How much of the object is meant; None for what the model is surest of."""

    @property
    def roi(self) -> Tensor:
        """Return the region of interest (1, 1, H, W) 0/1, the guidance map of the paper."""
        return ((self.alpha * self.known) > 0.5).float()

    @property
    def is_complete(self) -> bool:
        """Whether alpha of every pixel was given, as by a mask."""
        return bool(self.known.min() > 0)

    @property
    def is_trimap(self) -> bool:
        """Whether most pixels are known, object and background, and some are not.

        A box is none, whatever is marked inside of it: it tells background alone.
        """
        size = self.known.shape[-2:]
        if any(mark.labels.shape == size and not mark.is_object for mark in self.steps):
            return False
        share = float(self.known.mean())
        return share > _TRIMAP_SHARE and not self.is_complete and bool(self.roi.any())


@dataclass(frozen=True)
class Stroke:
    """A line painted with a round brush."""

    points: tuple[tuple[float, float], ...]
    """(x, y) corners in pixels of the displayed frame."""
    width: float
    """Diameter of the brush in the same pixels."""
    label: int = OBJECT
    """1 object, 0 background."""

    def __post_init__(self) -> None:
        if not self.points or not 0 < self.width < math.inf:
            raise PromptError(
                f"a stroke of {len(self.points)} points and width {self.width} found: it needs both"
            )


@dataclass(frozen=True)
class MarkedClip:
    """The clip or image that prompts were made on, as far as a prompt file says."""

    name: str
    """File name, without its folder."""
    size: tuple[int, int] | None = None
    """Width and height of the displayed frame; None if it is not known."""
    bytes: int | None = None
    """Size of the file; None for a folder, or if it is not known."""

    def is_file(self, path: Path) -> bool:
        """Return whether a file may be that clip, by its name and its number of bytes."""
        if path.name != self.name:
            return False
        # A prompt file without the size in bytes fits every file of the name.
        return self.bytes is None or not path.is_file() or path.stat().st_size == self.bytes

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name} ({self.size[0]}x{self.size[1]})"


@dataclass(frozen=True)
class Prompt:
    """The marks on one reference frame.

    Coordinates are pixels of the displayed frame (rotated, square pixels).
    """

    frame: int | str | None = None
    """Frame of the clip that the marks belong to: its number, which is that of the file in an image
    sequence and counts from 0 in a movie, or a position such as "index:5", "2.5s" or a timecode
    (see `read.parse_position`). None for the first frame."""
    points: tuple[tuple[float, float, int], ...] = ()
    """(x, y, label) with label 1 for the object and 0 for background; (x, y) is the object."""
    strokes: tuple[Stroke, ...] = ()
    box: tuple[float, float, float, float] | None = None
    """(x0, y0, x1, y1): all of the object lies inside."""
    mask: Path | MaskArray | None = None
    """Image of the frame's size: white object, black background, gray in between. An array or a
    Pillow image becomes a `MaskArray`."""
    scribbles: Path | None = None
    """Image of the frame's size: white or green object, black or red background, transparent
    unknown."""
    extent: Extent | None = None
    """How much a mark means: the part that it is on, the whole object, or a group of objects; None
    for what the model is surest of."""
    made_on: MarkedClip | None = field(default=None, compare=False)
    """The clip that the marks were made on, if a prompt file says so."""

    if TYPE_CHECKING:
        # What is taken is wider than what is kept.
        def __init__(
            self,
            frame: int | str | None = None,
            points: Sequence[tuple[float, float] | tuple[float, float, int]] = (),
            strokes: Sequence[Stroke] = (),
            box: tuple[float, float, float, float] | None = None,
            mask: str | Path | MaskArray | ImageLike | None = None,
            scribbles: str | Path | None = None,
            extent: Extent | None = None,
            made_on: MarkedClip | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        self._take("points", tuple(map(_with_label, self.points)))
        self._take("strokes", tuple(self.strokes))
        self._take("box", None if self.box is None else tuple(self.box))
        self._take("mask", _as_mask(self.mask))
        self._take("scribbles", None if self.scribbles is None else Path(self.scribbles))
        if not (self.points or self.strokes or self.box or self.mask or self.scribbles):
            raise PromptError(
                f"{self.where}: nothing is marked; give points, strokes, a box or a mask"
            )
        if self.extent not in (None, *EXTENTS):
            raise PromptError(
                f"extent {self.extent!r} is not valid: choose one of {', '.join(EXTENTS)}"
            )
        if self.extent is not None and (self.mask is not None or self.box):
            kind = "mask" if self.mask is not None else "box"
            raise PromptError(
                f"extent {self.extent} was given with a {kind}, which says how large the object "
                f"is: leave one of them out"
            )
        if isinstance(self.frame, int) and self.frame < 0:
            raise PromptError(f"reference frame {self.frame} is not valid: frames count from 0")
        labels = {label for *_, label in self.points} | {stroke.label for stroke in self.strokes}
        if not labels <= {OBJECT, BACKGROUND}:
            raise PromptError(
                f"labels {sorted(labels)} found: a label is 1 (object) or 0 (background)"
            )

    def _take(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen after this

    @property
    def where(self) -> str:
        """The marked frame, for messages."""
        return "first frame" if self.frame is None else f"frame {self.frame}"

    def reference(
        self,
        rgb: Tensor,
        *,
        display_width: int | None = None,
        frame: int | None = None,
        color: ColorTags | None = None,
        mask_fit: MaskFit = "exact",
        windows: Windows | None = None,
    ) -> Reference:
        """Draw the reference of the image that these marks belong to.

        Args:
            rgb: (1, 3, H, W) the image; values beyond 0..1 are clipped.
            display_width: width of the displayed frame, if pixels are not square.
            frame: index of the image in the clip that is matted; None if it is another image.
            color: tags of the clip: HDR and scene-linear images are shown to the model through
                `imaging.display.to_display`.
            mask_fit: what is done with a mask or image of strokes of another size, see
                `MatteOptions`.
            windows: those of an EXR clip; a mask of the size of its display window is placed there,
                and nothing is known around it.

        Raises:
            PromptError: a mark is outside the frame, an image has another size, the marks were
                made on a clip of another size, or no object is marked.
        """
        height, width = rgb.shape[-2:]
        # Images can be brought to a frame of another size, coordinates cannot.
        if mask_fit == "exact" or self.points or self.strokes or self.box:
            self._check_size(display_width or width, height)
        # Imported here: a prompt is a plain value, and drawing it loads torch and OpenCV.
        from vidmatte.prompts.draw import draw_prompt

        drawn = draw_prompt(
            self,
            rgb,
            display_width=display_width,
            color=color,
            mask_fit=mask_fit,
            windows=windows,
        )
        rgb, alpha, known, marks = drawn
        return Reference(rgb, alpha, known, frame, steps=marks, extent=self.extent)

    def _check_size(self, width: int, height: int) -> None:
        if self.made_on is None or self.made_on.size in (None, (width, height)):
            return
        raise PromptError(
            f"the prompts were made on {self.made_on}, and the frame is {width}x{height}; mark "
            f"this clip, or give the one that was marked"
        )


def _with_label(
    point: tuple[float, float] | tuple[float, float, int],
) -> tuple[float, float, int]:
    if len(point) not in (2, 3):
        raise PromptError(f"point {point!r} is not valid: give (x, y) or (x, y, label)")
    return (float(point[0]), float(point[1]), point[2] if len(point) == 3 else OBJECT)


def _as_mask(mask: Any) -> Path | MaskArray | None:
    if hasattr(mask, "__array_interface__"):
        # Imported here: a prompt is a plain value, and loads no NumPy without an array.
        from vidmatte.prompts.arrays import MaskArray

        return MaskArray(mask)
    return Path(mask) if isinstance(mask, str) else mask


def with_extent(prompts: Sequence[Prompt], extent: Extent | None) -> tuple[Prompt, ...]:
    """Return prompts that mean so much of what they mark; None leaves them as they are.

    Raises PromptError if the extent is not valid, or one of them is a mask.
    """
    if extent is None:
        return tuple(prompts)
    return tuple(replace(prompt, extent=extent) for prompt in prompts)


def parse_points(text: str) -> tuple[tuple[float, float, int], ...]:
    """Parse points of the form `"x,y[,label] ..."`; the default label is 1 (object).

    Raises PromptError.
    """
    points = []
    for item in text.split():
        parts = item.split(",")
        try:
            x = float(parts[0])
            y = float(parts[1])
            label = int(parts[2]) if len(parts) == 3 else OBJECT
        except (ValueError, IndexError):
            parts = []
        if len(parts) not in (2, 3):
            raise PromptError(
                f'point {item!r} is not valid: write "x,y" or "x,y,label", separated by spaces'
            )
        points.append((x, y, label))
    if not points:
        raise PromptError('no points given: write "x,y" or "x,y,label", separated by spaces')
    return tuple(points)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Parse a box of the form `x0,y0,x1,y1`. Raises PromptError."""
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError as error:
        raise PromptError(f"box {text!r} is not valid: write x0,y0,x1,y1") from error
    return x0, y0, x1, y1
