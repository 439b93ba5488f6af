import pytest
from clips import write_movie


@pytest.fixture(scope="session")
def movie(tmp_path_factory):
    """A short clip with sound: 12 frames of 160x96 at 25 frames/s."""
    return write_movie(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12, sound=True)


@pytest.fixture(autouse=True)
def _without_rehearsal(monkeypatch):
    """What the other tests look at does not depend on practice; test_rehearse.py asks for it."""
    monkeypatch.setattr("vidmatte.pipeline.DEFAULT_STEPS", 0)
