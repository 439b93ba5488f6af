"""What was computed of a frame, kept for the other objects that are followed through it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class LastViews:
    """Results by what they were computed of; each is kept as long as that lives.

    Threads may use it at the same time: then a result may be computed twice, and never mixed up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[tuple[weakref.ref[Any], ...], Any]] = {}

    def get(self, key: Hashable, of: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """Return what `compute` returned for this key and these very objects, or call it.

        Args:
            key: tells results of the same objects apart.
            of: tensors or modules that the result depends on; they must not be changed.
            compute: makes the result; it must not refer to any of `of` in what it returns.
        """
        place = (key, *map(id, of))
        with self._lock:
            refs, found = self._kept.get(place, ((), None))
        # Another object may have got the number of one that is gone.
        if refs and all(ref() is each for ref, each in zip(refs, of, strict=True)):
            return found  # type: ignore[no-any-return]
        made = compute()
        watched = tuple(weakref.ref(each, lambda _: self._forget(place)) for each in of)
        with self._lock:
            self._kept[place] = (watched, made)
        return made

    def __len__(self) -> int:
        """Return how many results are kept."""
        return len(self._kept)

    def _forget(self, place: Hashable) -> None:
        # Without the lock: objects may die in the middle of `get`, on the thread that holds it.
        self._kept.pop(place, None)
