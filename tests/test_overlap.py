"""Work that is shared or done side by side gives the same mattes as alone, one after the other."""

import gc
import threading

import cv2
import numpy as np
import pytest
import torch
from test_propagate import CountingMatter, CountingVideo
from test_segments import FRAMES, OPTIONS, clip, hashes, outputs, prompt  # noqa: F401

import vidmatte
from vidmatte.frames import FrameBatch
from vidmatte.imaging.area import shrink_planes
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.views import LastViews
from vidmatte.pipeline.progress import Work
from vidmatte.pipeline.segments.long_render import BesideRunner
from vidmatte.pipeline.segments.plan import Plan, Schedule, Unit
from vidmatte.pipeline.segments.render import Renderer
from vidmatte.stages.full_size import ShownBatch
from vidmatte.stages.passes import Pass
from vidmatte.stages.propagate import matte_objects


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(1080, 1920, (192, 336)), (97, 61, (40, 23)), (60, 80, (30, 20)), (50, 80, (50, 33))],
)
def test_areas_are_averaged_as_by_opencv(height, width, size):
    planes = np.random.default_rng(0).random((3, height, width), np.float32)
    wanted = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in planes]
    found = shrink_planes(planes, size)
    assert found.shape == (*size, 3)
    assert np.abs(found - np.stack(wanted, -1)).max() < 1e-5


def test_areas_of_a_ramp_are_its_means():
    # Pixels 0 to 5 in four averages of one and a half pixels each.
    planes = np.repeat(np.arange(6, dtype=np.float32)[None, :, None], 4, axis=2)
    found = shrink_planes(np.concatenate([planes, planes]), (4, 4))[..., 0]
    assert np.allclose(found[:, 0], [1 / 3, 5 / 3, 10 / 3, 14 / 3])


def test_views_are_computed_once_for_an_object_and_forgotten_with_it():
    views = LastViews()
    made = []

    def get(frame, key="a"):
        return views.get(key, (frame,), lambda: made.append(key) or len(made))

    frame = torch.zeros(2)
    assert [get(frame), get(frame), get(frame, "b"), get(torch.zeros(2))] == [1, 1, 2, 3]
    gc.collect()
    assert len(views) == 2
    del frame
    gc.collect()
    assert len(views) == 0


def test_objects_with_one_window_share_its_encoding(monkeypatch):
    shown = []
    encode = CompactNet.encode
    monkeypatch.setattr(
        CompactNet, "encode", lambda net, *args: shown.append(1) or encode(net, *args)
    )
    model = vidmatte.load_model(device="cpu", working_size=128)
    video = CountingVideo(4)
    rng = np.random.default_rng(0)
    frames = [torch.from_numpy(rng.random((1, 3, 72, 128), np.float32)) for _ in range(4)]
    # Two halves of the frame: the window of each is the whole frame.
    left = torch.zeros(1, 1, 72, 128)
    left[..., :64] = 1
    references = [
        vidmatte.Prompt(frame=0, mask=mask[0, 0].numpy()).reference(frames[0], frame=0)
        for mask in (left, 1 - left)
    ]
    predictors = [model.with_reference([reference]) for reference in references]
    video.decode = lambda start=0: (
        vidmatte.read.Frame(frame[0].numpy(), index, index, 1)
        for index, frame in enumerate(frames)
        if index >= start
    )
    alone = [
        [mattes[0].alpha for mattes in matte_objects([predictor], video, [[reference]])]
        for predictor, reference in zip(predictors, references, strict=True)
    ]
    alone_shown = len(shown)
    both = list(matte_objects(predictors, video, [[each] for each in references]))
    # As often as for one of them: each frame is encoded once for both.
    assert 2 * (len(shown) - alone_shown) == alone_shown
    for frame, mattes in enumerate(both):
        for name, matte in enumerate(mattes):
            assert torch.equal(matte.alpha, alone[name][frame])


def counted(predictor, frames):
    """Mattes of a counting clip that is marked on its first frame."""
    video = CountingVideo(frames)
    marked = vidmatte.Prompt(points=((1, 1, 1),)).reference(video.frame(0).rgb, frame=0)
    return matte_objects([predictor], video, [[marked]])


def test_frames_are_followed_on_another_thread_than_they_are_finished():
    threads = {"step": set(), "finish": set()}

    class Watched(CountingMatter):
        def shrink(self, rgb):
            threads["step"].add(threading.current_thread().name)
            return super().shrink(rgb)

        def finish(self, rgb, coarse):
            threads["finish"].add(threading.current_thread().name)
            return super().finish(rgb, coarse)

    list(counted(Watched(), 5))
    assert threads["finish"] == {threading.current_thread().name}
    assert threads["step"] == {"vidmatte-prefetch"}


def test_threads_are_gone_if_the_consumer_leaves_early():
    mattes = counted(CountingMatter(), 50)
    next(mattes)
    mattes.close()
    assert not any(each.name == "vidmatte-prefetch" for each in threading.enumerate())


def test_display_transform_is_shared_by_all_frames_of_a_batch():
    rgb = torch.rand(3, 3, 4, 6) * 1.2 - 0.1
    batch = FrameBatch(rgb, (4, 5, 6), (4, 5, 6), (1, 1, 1))
    shown = ShownBatch.of(batch, CountingVideo(1).info.color)
    assert all(
        torch.equal(frame, rgb[i : i + 1].clamp(0, 1)) for i, frame in enumerate(shown.frames)
    )
    last = shown.last(2)
    assert last.batch.frames == (5, 6)
    assert last.frames[0] is shown.frames[1]


def test_the_next_chunk_is_propagated_beside_a_segment(clip, tmp_path, monkeypatch):  # noqa: F811
    threads = []
    run = Renderer.run

    def watched(renderer, unit, work):
        threads.append((unit.kind, threading.current_thread() is threading.main_thread()))
        return run(renderer, unit, work)

    monkeypatch.setattr(Renderer, "run", watched)
    vidmatte.matte(clip, prompt(), alpha=tmp_path / "a.mkv", options=OPTIONS)
    assert sorted(threads) == [("propagate", False)] * 3 + [("render", True)] * 3


def test_a_segment_begins_the_chunk_behind_it():
    plan = Plan(first=0, end=15, length=5, adapted=(), passes=((Pass(0, 0, 14),),), overlap=0)
    begun = []
    ready = threading.Event()

    def run(unit, work):
        begun.append(unit.name)
        ready.wait(5)
        return {"unit": unit.name}

    schedule = Schedule(plan)
    with BesideRunner(run, Work()) as beside:
        assert beside.takes(schedule.take(), schedule)
        ready.set()
        schedule.finish(beside.result()[0])
        segment = schedule.take()
        assert segment == Unit("render", 0)
        assert not beside.takes(segment, schedule)
        assert beside.unit == Unit("propagate", 1)


def test_a_unit_is_stopped_when_its_block_is_left():
    began = threading.Event()
    ended = []

    def run(unit, work):
        began.set()
        try:
            while True:
                work.add("propagating")
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    def leave():
        with BesideRunner(run, Work()) as beside:
            beside.takes(Unit("propagate", 0), None)
            began.wait(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert ended == ["_StoppedError"]
    assert not any(each.name.startswith("vidmatte-beside") for each in threading.enumerate())
