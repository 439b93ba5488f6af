import logging
import signal

import numpy as np
import pytest
import torch
from clips import write_corpus, write_movie

from vidmatte.errors import use_wording
from vidmatte.python_errors import in_python

# In every test alike, and not only after one that uses a public name.
use_wording(in_python)


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Enable Ctrl-C for tests: a shell makes its background jobs and their children ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_config():
    """Let no vidmatte.toml of this machine change what tests see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDMATTE_CONFIG", "")
        yield


@pytest.fixture(scope="session")
def movie(tmp_path_factory):
    """A short clip with sound: 12 frames of 160x96 at 25 frames/s."""
    return write_movie(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12, sound=True)


@pytest.fixture(autouse=True)
def _log_level():
    """Restore the package's log level, which the command line sets for its process."""
    logger = logging.getLogger("vidmatte")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module")
def one_thread():
    """More threads than free cores wait for each other by spinning."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Twenty photographs of coloured noise, and four round cut-outs."""
    y, x = np.mgrid[:80, :80]
    alpha = np.clip((30 - np.hypot(y - 40, x - 40)) / 2 + 0.5, 0, 1) * 255
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, photographs=20, cutouts=4, alpha=alpha.astype(np.uint8))
    return folder
