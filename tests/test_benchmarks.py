"""The scripts of benchmarks/: they load, and name parts of the program that are there."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Return a function that loads a script as `python benchmarks/NAME.py` does."""
    # The scripts import each other; nothing of them stays behind.
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)

    def load(path):
        spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look for the module of their annotations.
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if Path(origin).parent == FOLDER:
            del sys.modules[name]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_finds_what_it_imports(path, load):
    load(path)


def test_the_parts_of_a_frame_are_there(load):
    parts = load(FOLDER / "network_time.py").PARTS
    missing = [part for part, (owner, name) in parts.items() if not hasattr(owner, name)]
    assert not missing
