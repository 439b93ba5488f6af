"""The edge of the matte as the page sets it: controls that act on what is shown and on the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import cv2
import numpy as np
import torch

from vidmatte.errors import OptionError
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.matte_finish import finish_alpha
from vidmatte.options import Despill, FinishOptions, MatteOptions, Screen

_SLIDERS: Mapping[str, tuple[str, float, float, float]] = {
    "clip_black": ("Clip black", 0, 0.98, 0.01),
    "clip_white": ("Clip white", 0.02, 1, 0.01),
    "remove_dots": ("Remove dots", 0, 2000, 10),
    "fill_holes": ("Fill holes", 0, 2000, 10),
    "grow": ("Grow", -30, 30, 0.5),
    "feather": ("Feather", 0, 30, 0.5),
    "smooth": ("Smooth", 0, 1, 0.05),
    "despill_strength": ("Strength", 0, 1, 0.05),
}
"""Name on the page, least and largest value and step of its slider."""
_HELP = {"despill_strength": "How much of the light of the screen is taken out of the colour."}


@dataclass(frozen=True)
class Edge:
    """The values of all controls; see `options.FinishOptions` and `options.MatteOptions`."""

    clip_black: float = 0.0
    clip_white: float = 1.0
    remove_dots: float = 0.0
    fill_holes: float = 0.0
    grow: float = 0.0
    feather: float = 0.0
    invert: bool = False
    smooth: float = 0.0
    despill: Screen | None = None
    despill_strength: float = 1.0

    @classmethod
    def of(cls, options: MatteOptions) -> Edge:
        """Return the edge of the options of a run."""
        finish, despill = options.finish, options.despill
        same = {name: getattr(finish, name) for name in _FINISHED}
        return cls(
            **same,
            smooth=options.smooth,
            despill=None if despill is None else despill.screen,
            despill_strength=1.0 if despill is None else despill.strength,
        )

    def with_page(self, asked: Mapping[str, Any]) -> Edge:
        """Return the edge with the changes of a page. Raises OptionError if they are not valid."""
        known = {field.name for field in fields(self)}
        for name, value in asked.items():
            if name not in known:
                raise OptionError(f"{name!r} is not valid: the edge has {', '.join(sorted(known))}")
            if name == "despill":
                is_right = value is None or isinstance(value, str)
            else:
                is_right = type(value) is bool if name == "invert" else type(value) in (int, float)
            if not is_right:
                raise OptionError(f"{name} {value!r} is not valid: {_KINDS.get(name, 'a number')}")
        changed = replace(self, **asked)
        changed.applied_to(MatteOptions())  # refuses what is out of range
        Despill(changed.despill or "green", changed.despill_strength)
        return changed

    def applied_to(self, options: MatteOptions) -> MatteOptions:
        """Return options with this edge; their masks and region stay."""
        values = asdict(self)
        return replace(
            options,
            finish=replace(options.finish, **{name: values[name] for name in _FINISHED}),
            smooth=self.smooth,
            despill=None if self.despill is None else Despill(self.despill, self.despill_strength),
        )

    @property
    def is_plain(self) -> bool:
        """Whether alpha is left as the model gives it, but for smoothing."""
        return all(getattr(self, name) == getattr(Edge(), name) for name in _FINISHED)

    def finished(self, alpha: Alpha, height: int) -> Alpha:
        """Return alpha (h, w) of a picture of a frame that is `height` pixels high, finished.

        Pixels of the controls are those of the whole frame: in a smaller picture they are smaller.
        """
        if self.is_plain:
            return alpha
        scale = alpha.shape[0] / height
        options = FinishOptions(
            clip_black=self.clip_black,
            clip_white=self.clip_white,
            remove_dots=self.remove_dots * scale**2,
            fill_holes=self.fill_holes * scale**2,
            grow=self.grow * scale,
            feather=self.feather * scale,
            invert=self.invert,
        )
        done = finish_alpha(torch.from_numpy(alpha), options, display_width=alpha.shape[1])
        return np.asarray(done.numpy(), np.float32)

    def finished_png(self, png: bytes, height: int) -> bytes:
        """Return a gray PNG of a frame that is `height` pixels high, finished."""
        if self.is_plain:
            return png
        alpha = decoded(png)
        codes = (self.finished(alpha, height) * 255 + 0.5).astype(np.uint8)
        _, data = cv2.imencode(".png", codes, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return data.tobytes()


_FINISHED = ("clip_black", "clip_white", "remove_dots", "fill_holes", "grow", "feather", "invert")
"""Controls that are fields of `FinishOptions`."""
_KINDS: Mapping[str, Literal["true or false", "green, blue or nothing"]] = {
    "invert": "true or false",
    "despill": "green, blue or nothing",
}


def decoded(png: bytes) -> Alpha:
    """Return the alpha (h, w) in 0..1 of a gray PNG."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(image, np.float32) / np.float32(255)


def describe_controls() -> dict[str, dict[str, Any]]:
    """Return the controls for the page: range, step, label and help of each."""
    infos = {
        field.name: field.metadata["option"]
        for options in (FinishOptions, MatteOptions)
        for field in fields(options)
        if "option" in field.metadata
    }
    sliders = {
        name: {
            "least": least,
            "most": most,
            "step": step,
            "label": label,
            "help": _HELP.get(name) or infos[name].help,
        }
        for name, (label, least, most, step) in _SLIDERS.items()
    }
    return sliders | {
        name: {"least": 0, "most": 1, "step": 1, "label": label, "help": infos[name].help}
        for name, label in (("invert", "Invert"), ("despill", "Despill"))
    }
