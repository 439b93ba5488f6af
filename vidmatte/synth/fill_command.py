"""The command that makes a bank of moving foregrounds; see `python -m vidmatte.synth --help`."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from vidmatte.errors import VidmatteError
from vidmatte.synth.bank import write_index
from vidmatte.threads import one_in_opencv

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or extend a bank, and return the exit code: 0, or 1 after an error that was logged.

    Entries that exist are kept, so that a run that was stopped can be started again.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.entries and given.corpus is None:
        parser.error("--entries needs photographs for textures, got none; add --corpus DIR")
    if given.footage and not (given.source and given.licence):
        parser.error("--footage needs its origin for bank.json; add --source TEXT --licence TEXT")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given.bank.mkdir(parents=True, exist_ok=True)
    jobs: list[Callable[[], None]] = []
    for first in range(given.workers):
        if given.footage:
            part = slice(first, None, given.workers)
            terms = (given.source, given.licence)
            jobs.append(partial(_cut_out, given.bank, given.footage, part, *terms))
        if given.entries:
            numbers = range(first, given.entries, given.workers)
            jobs.append(partial(_render, given.bank, given.corpus, numbers))
        if given.grooms:
            numbers = range(first, given.grooms, given.workers)
            jobs.append(partial(_draw, given.bank, numbers))
    try:
        _run(jobs, given.workers)
    except VidmatteError as error:
        _log.error("Error: %s", error)
        return 1
    finally:
        entries = write_index(given.bank)
    _log.info("%s: %d entries", given.bank, len(entries))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vidmatte.synth",
        description="Make or extend a bank of moving foregrounds for training.",
    )
    parser.add_argument("bank", type=Path, metavar="BANK", help="Folder of the bank.")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="Photographs that renders are textured with."
    )
    parser.add_argument(
        "--footage", type=Path, metavar="DIR", help="Clips of a camera that stands still."
    )
    parser.add_argument("--source", metavar="TEXT", help="Origin of the footage.")
    parser.add_argument("--licence", metavar="TEXT", help="Licence of the footage.")
    parser.add_argument(
        "--entries", type=int, default=0, metavar="N", help="Number of rendered entries."
    )
    parser.add_argument(
        "--grooms", type=int, default=0, metavar="N", help="Number of entries with hair or fur."
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="Number of processes.")
    return parser


def _run(jobs: Sequence[Callable[[], None]], workers: int) -> None:
    if workers == 1:
        for job in jobs:
            job()
        return
    # A forked process would inherit the locks of libraries that have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_process) as pool:
        for running in [pool.submit(job) for job in jobs]:
            running.result()


def _start_process() -> None:
    """Keep the threads of each process from competing with the other processes."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    one_in_opencv()


def _cut_out(bank: Path, footage: Path, part: slice, source: str, licence: str) -> None:
    """Cut movers out of some clips of a folder."""
    from vidmatte.synth.fill import fill_from_footage

    fill_from_footage(bank, footage, source=source, licence=licence, part=part)


def _render(bank: Path, corpus: Path, numbers: range) -> None:
    """Render the entries of some numbers."""
    from vidmatte.synth.corpus import Corpus
    from vidmatte.synth.fill import fill_with_meshes

    fill_with_meshes(bank, Corpus(corpus, "train"), numbers)


def _draw(bank: Path, numbers: range) -> None:
    """Draw the hair and fur of some numbers."""
    from vidmatte.synth.fill import fill_with_grooms

    fill_with_grooms(bank, numbers)
