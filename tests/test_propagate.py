import io
from fractions import Fraction

import numpy as np
import pytest
import torch

from vidmatte.errors import ReadError, WriteError
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.model import CoarseMatte
from vidmatte.model.compact.window import drop_left_behind
from vidmatte.prompts.prompt import Prompt
from vidmatte.read import Frame, Video
from vidmatte.stages import propagate, propagator
from vidmatte.stages.passes import Pass, forward_share, plan_passes
from vidmatte.stages.propagate import matte_clip


def test_one_reference_is_propagated_both_ways():
    assert plan_passes([5], 0, 10) == [Pass(5, 0, 4), Pass(5, 5, 9)]


def test_first_frame_as_reference_needs_no_way_back():
    assert plan_passes([0], 0, 10) == [Pass(0, 0, 9)]


def test_references_share_the_frames_between_them():
    # Half-way between 0 and 40 is 20; both passes go 4 frames beyond it.
    assert plan_passes([40, 0], 0, 60) == [Pass(0, 0, 24), Pass(40, 17, 39), Pass(40, 40, 59)]


def test_a_reference_outside_the_range_is_propagated_into_it():
    assert plan_passes([3], 10, 20) == [Pass(3, 3, 19)]
    assert plan_passes([30], 10, 20) == [Pass(30, 10, 29)]


def test_passes_without_a_wanted_frame_are_left_out():
    assert plan_passes([0, 500], 0, 50) == [Pass(0, 0, 49)]


def test_adjacent_references_split_the_frames():
    assert plan_passes([4, 5], 0, 8) == [Pass(4, 0, 3), Pass(4, 4, 4), Pass(5, 5, 7)]


@pytest.mark.parametrize("references", [[0], [9], [3, 4, 30], [0, 7, 8, 59], [100], [12, 31]])
@pytest.mark.parametrize(("start", "end"), [(0, 60), (10, 20), (35, 36)])
def test_every_wanted_frame_is_covered(references, start, end):
    passes = plan_passes(references, start, end)
    covered = {frame for pass_ in passes for frame in range(pass_.first, pass_.last + 1)}
    assert covered >= set(range(start, end))


def test_cross_fade_falls_evenly():
    forward, backward = Pass(0, 0, 24), Pass(40, 17, 39)
    shares = [forward_share(frame, forward, backward) for frame in range(17, 25)]
    assert np.allclose(shares, [8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])


class CountingVideo(Video):
    """Frames whose brightness is their index over 100."""

    def __init__(self, frames):
        super().__init__()
        self.frames = frames
        self.info = VideoInfo("counting", 4, 2, Fraction(25), Fraction(1, 25))

    def decode(self, start=0):
        for index in range(start, self.frames):
            yield Frame(np.full((3, 2, 4), index / 100, np.float32), index, index, 1)

    def count_frames(self):
        return self.frames

    def seconds_of(self, index):
        return Fraction(index, 25)


class StepsFromReference:
    """A tracker whose matte of a frame is the number of steps that led to it, over 100."""

    def __init__(self, log):
        self.log = log

    def start(self, reference):
        self.origin, self.steps = reference.frame, 0
        return self.matte()

    def step(self, small):
        self.steps += 1
        self.log.append((self.origin, round(float(small[0, 0, 0, 0]) * 100)))
        return self.matte()

    def matte(self):
        return CoarseMatte(torch.full((1, 1, 2, 4), self.steps / 100), confidence=self.steps / 100)


class CountingMatter:
    def __init__(self):
        self.log = []

    def tracker(self):
        return StepsFromReference(self.log)

    def shrink(self, rgb):
        return rgb

    def finish(self, rgb, coarse):
        return coarse.alpha


def run(frames, references, **options):
    video, predictor = CountingVideo(frames), CountingMatter()
    marked = [
        Prompt(frame=n, points=((1, 1, 1),)).reference(video.frame(n).rgb, frame=n)
        for n in references
    ]
    batches = list(matte_clip(predictor, video, marked, **options))
    steps = {
        i: round(float(b.alpha[k].mean()) * 100)
        for b in batches
        for k, i in enumerate(b.source.frames)
    }
    return steps, predictor.log


@pytest.mark.parametrize("batch_size", [1, 3, 50])
@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 20])
def test_output_is_in_order_and_counts_steps_from_the_reference(
    monkeypatch, batch_size, chunk_bytes
):
    monkeypatch.setattr(propagator, "_CHUNK_BYTES", chunk_bytes)
    steps, log = run(12, [5], batch_size=batch_size)
    assert list(steps) == list(range(12))
    assert list(steps.values()) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6]
    assert log == [(5, n) for n in (4, 3, 2, 1, 0, 6, 7, 8, 9, 10, 11)]


def test_a_range_is_reached_from_a_reference_outside_it():
    steps, _ = run(20, [2], start=5, end=9)
    assert steps == {5: 3, 6: 4, 7: 5, 8: 6}
    steps, _ = run(20, [15], start=5, end=9)
    assert steps == {5: 10, 6: 9, 7: 8, 8: 7}


def test_two_references_meet_in_a_cross_fade():
    steps, _ = run(50, [0, 40])
    assert [steps[n] for n in (0, 10, 16)] == [0, 10, 16]  # forward from 0
    assert [steps[n] for n in (25, 39, 40, 49)] == [15, 1, 0, 9]  # backward from 40, then forward
    # In between: share * forward + (1 - share) * backward, the share falling from 8/9 at 17 to 1/9
    # at 24.
    assert [steps[n] for n in (17, 20, 24)] == [
        round(8 / 9 * 17 + 1 / 9 * 23),
        20,
        round(1 / 9 * 24 + 8 / 9 * 16),
    ]


def test_a_frame_missing_on_the_way_back_is_named():
    video, predictor = CountingVideo(20), CountingMatter()
    marked = [Prompt(frame=15, points=((1, 1, 1),)).reference(video.frame(15).rgb, frame=15)]
    video.frames = 9  # as of a damaged movie, of which only what comes before the damage is read
    with pytest.raises(ReadError, match=r"frame 9 cannot be read.*reference at frame 15"):
        list(matte_clip(predictor, video, marked))


def test_full_temporary_folder_is_named(monkeypatch):
    def full(data):
        raise OSError(28, "No space left on device")

    class FullFile(io.BytesIO):
        write = staticmethod(full)

    monkeypatch.setattr(propagate.tempfile, "TemporaryFile", FullFile)
    with pytest.raises(WriteError, match=r"No space left on device.*TMPDIR"):
        run(12, [5])


def test_propagated_frames_add_up():
    done = []
    run(30, [20], on_propagated=lambda frames, later: done.append((frames, later)))
    assert done == [(1, True)] * 20 + [(1, False)] * 10


def test_propagation_without_a_reference_starts_at_the_first_frame():
    class External(CountingMatter):
        def tracker(self):
            tracker = StepsFromReference(self.log)
            tracker.origin, tracker.steps = None, 0
            return tracker

    predictor = External()
    batches = list(matte_clip(predictor, CountingVideo(4), [], start=1))
    assert [i for b in batches for i in b.source.frames] == [1, 2, 3]
    assert predictor.log == [(None, 1), (None, 2), (None, 3)]


def test_models_without_a_tracker_see_batches():
    class Alone(CountingMatter):
        def tracker(self):
            return None

        def __call__(self, batch: FrameBatch) -> MatteBatch:
            return MatteBatch(batch, batch.rgb[:, :1].clone(), (1.0,) * len(batch))

    batches = list(matte_clip(Alone(), CountingVideo(5), [], batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]


def disc(x, y, radius, height=96, width=160):
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return (np.hypot(across - x, down - y) < radius).astype(np.float32)


def moving(region, step, height=96, width=160):
    """(H, W, 2) flow that is `step` in a region and 0 elsewhere."""
    return np.where(region[..., None] > 0, np.float32(step), np.float32(0)) * np.ones(
        (height, width, 2), np.float32
    )


def test_a_piece_that_stands_while_the_object_leaves_is_dropped():
    body, lookalike = disc(40, 48, 20), disc(120, 48, 12)
    kept = drop_left_behind(body + lookalike, moving(body, (4, 0)))
    assert np.array_equal(kept, body)


def test_a_piece_that_moves_with_the_object_is_kept():
    body, hand = disc(40, 48, 20), disc(120, 48, 12)
    matte = body + hand
    assert drop_left_behind(matte, moving(matte, (4, 0))) is matte


def test_a_planted_foot_near_the_body_is_kept():
    body, foot = disc(40, 40, 20), disc(42, 66, 6)
    matte = body + foot
    assert drop_left_behind(matte, moving(body, (4, 0))) is matte


def test_nothing_is_left_behind_by_an_object_that_stands():
    matte = disc(40, 48, 20) + disc(120, 48, 12)
    assert drop_left_behind(matte, moving(matte, (0.2, 0))) is matte
    # A camera that pans moves all alike.
    assert drop_left_behind(matte, np.full((96, 160, 2), 5, np.float32)) is matte
