"""Make a bank of moving foregrounds: `python -m vidmatte.synth BANK --footage DIR --entries N`."""

from __future__ import annotations

import sys

# Worker processes import functions by their module, and cannot import a package's `__main__`.
from vidmatte.synth.fill_command import main

if __name__ == "__main__":
    sys.exit(main())
