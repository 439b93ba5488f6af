"""Running as somebody who may not write everywhere."""

import os
from contextlib import contextmanager


@contextmanager
def as_ordinary_user():
    """Root may write everywhere; so stop being root for a moment."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
