"""The terminal that the picker was started in."""

from __future__ import annotations

import os
import sys


def was_enter_pressed() -> bool:
    """Tell whether a line was typed since the last call; never waits.

    Always False if standard input is no terminal, or this program is in its background.
    """
    try:
        if sys.stdin is None or not sys.stdin.isatty():
            return False
        if sys.platform == "win32":
            return _was_enter_pressed_on_windows()
        return _was_line_typed(sys.stdin.fileno())
    except (OSError, ValueError):  # closed, or no terminal after all
        return False


if sys.platform == "win32":
    import msvcrt

    def _was_enter_pressed_on_windows() -> bool:
        found = False
        while msvcrt.kbhit():
            found |= msvcrt.getwch() == "\r"
        return found

else:
    import select

    def _was_line_typed(terminal: int) -> bool:
        # A program in the background that reads is stopped.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return False
        if not select.select([terminal], [], [], 0)[0]:
            return False
        return os.read(terminal, 4096) != b""
