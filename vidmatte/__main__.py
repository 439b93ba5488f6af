"""The `vidmatte` command, and `python -m vidmatte`: loads the rest so that it can be interrupted at any moment."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130
_STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def main() -> None:
    """Entry point of the `vidmatte` command."""
    # What a shell or nohup made deaf stays deaf.
    heard = [number for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _leave)
    from vidmatte.cli import cli

    # A farm stops its jobs with SIGTERM, a lost terminal with SIGHUP: clean up as after Ctrl-C.
    for number in heard:
        signal.signal(number, _interrupt)
    try:
        cli(prog_name="vidmatte")
    finally:
        for number in heard:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing was begun yet, or all is done. An exception would meet other people's imports."""
    os._exit(_INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
