import ast
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import torch

import vidmatte
from vidmatte import threads
from vidmatte.read import movie as movie_reader
from vidmatte.threads import SINGLE, Threads, current, using
from vidmatte.write.movie import MovieWriter

PACKAGE = Path(vidmatte.__file__).parent
SAMPLE = PACKAGE / "sample" / "portrait.mp4"


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_network_leaves_a_core_to_the_codecs(four_cores):
    assert Threads.for_run("auto") == Threads(compute=3, codec=4, images=4)
    assert Threads.for_run("cpu") == Threads(compute=3, codec=4, images=4)


def test_network_on_a_gpu_leaves_all_cores(four_cores):
    assert Threads.for_run("cuda") == Threads(compute=4, codec=4, images=4)


def test_asked_number_bounds_codecs_and_images_too(four_cores):
    assert Threads.for_run("cpu", 1) == Threads(compute=1, codec=2, images=2)
    assert Threads.for_run("cpu", 8) == Threads(compute=8, codec=4, images=4)


def test_stages_side_by_side_share_the_cores(four_cores, monkeypatch):
    assert Threads.for_run("cpu", stages=2) == Threads(compute=2, codec=4, images=4)
    # A number that was asked for is that of each stage.
    assert Threads.for_run("cpu", 3, stages=2) == Threads(compute=3, codec=4, images=4)
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert Threads.for_run("cpu", stages=2) == Threads(compute=1, codec=1, images=1)


def test_numbers_come_back_after_the_block_even_if_it_fails():
    before = torch.get_num_threads(), cv2.getNumThreads(), current()

    def fail():
        with using(Threads(3, 2, 1)):
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
            with using(SINGLE):
                assert (torch.get_num_threads(), current()) == (1, SINGLE)
            assert current() == Threads(3, 2, 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (torch.get_num_threads(), cv2.getNumThreads(), current()) == before


def test_cores_are_those_that_the_process_may_use():
    code = """
import os
os.sched_setaffinity(0, {0})
from vidmatte.threads import cores
print(cores())
"""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not tie processes to cores")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_decoders_and_encoders_use_the_number_in_force(tmp_path, monkeypatch):
    found = {}
    opened = movie_reader._opened
    add_video = MovieWriter._add_video

    @contextmanager
    def watched(*arguments):
        with opened(*arguments) as (container, stream):
            found["decoder"] = stream.codec_context.thread_count
            yield container, stream

    def watch(writer, container, rate):
        stream = add_video(writer, container, rate)
        found["encoder"] = stream.codec_context.thread_count
        return stream

    monkeypatch.setattr(movie_reader, "_opened", watched)
    monkeypatch.setattr(MovieWriter, "_add_video", watch)
    given = SAMPLE.with_name("portrait_alpha.mkv")
    options = vidmatte.MatteOptions(model="none", matte=given, end=2, threads=1)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    vidmatte.matte(SAMPLE, alpha=tmp_path / "a.mkv", options=options)
    assert found == {"decoder": 2, "encoder": 2}


def test_torch_keeps_its_threads_beside_numba():
    pytest.importorskip("pymatting")
    code = """
import torch
torch.set_num_threads(1)
from vidmatte.model.baselines.trimaps import closed_form
trimap = torch.full((1, 1, 24, 24), 0.5)
trimap[..., :6], trimap[..., -6:] = 0, 1
closed_form(torch.rand(1, 3, 24, 24), trimap)
import numba
print(torch.get_num_threads(), numba.get_num_threads(), numba.threading_layer())
"""
    # The layer that sets the threads of OpenMP, which are those of torch.
    layer = {"NUMBA_THREADING_LAYER": "omp", "NUMBA_NUM_THREADS": "4"}
    environment = {**os.environ, **layer}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    if "threading layer" in done.stderr:
        pytest.skip("numba has no OpenMP layer here")
    assert done.stdout.split() == ["1", "4", "omp"], done.stderr


def test_only_one_module_decides_threads():
    deciding = ("set_num_threads", "setNumThreads", "cpu_count", "set_num_interop_threads")
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "threads.py":
            continue
        names = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert names.isdisjoint(deciding), path


def test_pymatting_is_imported_beside_numba_alone():
    imports = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.With) and "beside_numba" in ast.dump(node.items[0])
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pymatting"):
                imports.append(path.name)
                assert id(node) in guarded, f"{path}: line {node.lineno}"
    assert sorted(imports) == ["corpus.py", "trimaps.py"]
