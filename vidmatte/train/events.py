"""Figures of a run for TensorBoard. Importing this needs the package tensorboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class Events:
    """Writes figures by kind, name and step; to be used in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def __call__(self, kind: str, figures: Mapping[str, float], step: int) -> None:
        """Write the figures of a kind ("train", "validation") at a step."""
        for name, value in figures.items():
            if name != "step":
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
