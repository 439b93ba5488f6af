"""A short run of the fuzzing in benchmarks/fuzz.py; the long one is 2,000 files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by Linux")
def test_damaged_files_end_in_a_clear_error_or_a_right_result(tmp_path):
    # A process of its own: it forks, which a process with the threads of other tests should not.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--files", "60", "--seed", "7", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "60 files, 0 failed" in done.stdout
    counts = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    errors, right = (
        sum(int(row[counts[0].index(name)]) for row in counts[1:]) for name in ("error", "right")
    )
    assert errors > 15  # the damages are damages
    assert right > 5  # and not only such that the file is gone
