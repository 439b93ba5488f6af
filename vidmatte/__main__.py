"""The `vidmatte` command, and `python -m vidmatte`. It can be interrupted at any moment."""

from __future__ import annotations

import signal

from vidmatte.process import handled_signals, interrupt, leave, protect_streams, use_one_heap


def main() -> None:
    """Entry point of the `vidmatte` command."""
    numbers = handled_signals()
    for number in numbers:
        signal.signal(number, leave)
    protect_streams()
    use_one_heap()
    from vidmatte.cli import cli

    for number in numbers:
        signal.signal(number, interrupt)
    try:
        cli(prog_name="vidmatte")
    finally:
        # All is done: do not let an exception meet the interpreter while it shuts down.
        for number in numbers:
            signal.signal(number, leave)


if __name__ == "__main__":
    main()
