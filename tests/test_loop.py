"""The training loop on a straight line: results do not depend on division or interruption."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vidmatte.errors import ModelError, OptionError, WriteError
from vidmatte.train import LoopConfig, TrainingTask, train
from vidmatte.train import checkpoint as checkpoints
from vidmatte.train.loop import schedule

COUNTED = [0]


class Line(nn.Module):
    """Weights, and a count such as batch normalisation has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x):
        self.seen += 1
        return self.linear(x)


class Points(torch.utils.data.Dataset):
    """Batch k holds the points k n to (k + 1) n of a plane, 4 points a step in all."""

    def __init__(self, config):
        self.config, self.size = config, 4 // (config.accumulate * config.processes)

    def __len__(self):
        return self.config.batches

    def __getitem__(self, k):
        points = torch.stack(
            [
                torch.randn(3, generator=torch.Generator().manual_seed(n))
                for n in range(k * self.size, (k + 1) * self.size)
            ]
        )
        return {"x": points, "y": points @ torch.tensor([[1.0], [-2.0], [0.5]])}


def loss(net, batch, generator, precision):
    COUNTED[0] += 1
    error = (net(batch["x"]) - batch["y"]).square().mean()
    return error, {"error": error.item()}


PART = TrainingTask("line", Line, Points, loss)


def config(**changes):
    settings = {
        "steps": 12,
        "workers": 0,
        "save_every": 4,
        "rate": 0.05,
        "warm_up": 2,
        "precision": "float32",
    }
    return LoopConfig(**(settings | changes))


def run(folder, part=PART, **changes):
    return train(config(**changes), folder, part, log=lambda line: None)


def weights(folder, name="weights"):
    return load_file(folder / f"{name}.safetensors")


def same(first, second, tolerance=0.0):
    return all(
        torch.allclose(first[key].float(), second[key].float(), rtol=0, atol=tolerance)
        for key in first
    )


def breaking_at(call):
    """The part, interrupted in a call of its loss."""

    def broken(*given):
        if COUNTED[0] == call:
            raise KeyboardInterrupt
        return loss(*given)

    COUNTED[0] = 0
    return dataclasses.replace(PART, loss=broken)


def test_it_learns_the_line_and_the_average_follows(tmp_path):
    run(tmp_path / "run", steps=300, average=0.9, save_every=300)
    found = weights(tmp_path / "run", "average")
    assert found["linear.weight"].tolist()[0] == pytest.approx([1, -2, 0.5], abs=0.05)
    assert found["seen"] == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_two_turns_of_two_are_one_of_four(tmp_path):
    run(tmp_path / "whole")
    run(tmp_path / "divided", accumulate=2)
    run(tmp_path / "finer", accumulate=4)
    for name in ("weights", "average", "exp_avg", "exp_avg_sq"):
        whole = weights(tmp_path / "whole", name)
        whole.pop("seen", None)
        assert same(whole, weights(tmp_path / "divided", name), 1e-6), name
        assert same(whole, weights(tmp_path / "finer", name), 1e-6), name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(tmp_path, accumulate):
    run(tmp_path / "whole", accumulate=accumulate)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", breaking_at(10 * accumulate - 1), accumulate=accumulate)
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["step"] == 8
    run(tmp_path / "broken", accumulate=accumulate)
    for name in ("weights", "average", "exp_avg", "exp_avg_sq"):
        assert same(weights(tmp_path / "whole", name), weights(tmp_path / "broken", name)), name


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_loop import config, PART, train
from vidmatte.train.processes import count_processes
train(config(processes=count_processes(), accumulate={accumulate}), {folder!r}, PART, log=lambda line: None)
"""  # noqa: E501


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_are_one_with_both_their_batches(tmp_path, accumulate):
    run(tmp_path / "whole")
    script = tmp_path / "script.py"
    folder = tmp_path / "divided"
    script.write_text(
        SCRIPT.format(tests=str(Path(__file__).parent), accumulate=accumulate, folder=str(folder))
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=here
    )
    assert done.returncode == 0, done.stderr
    for name in ("weights", "average", "exp_avg"):
        whole = weights(tmp_path / "whole", name)
        whole.pop("seen", None)
        assert same(whole, weights(folder, name), 1e-6), name


def test_another_number_of_processes_is_refused(tmp_path):
    with pytest.raises(
        OptionError, match=r"expected 2 processes, found 1: start the run with\s+torchrun"
    ):
        run(tmp_path / "run", processes=2)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    folder, written = tmp_path / "run", checkpoints.save_file

    def full(tensors, path, **given):
        if json.loads(given["metadata"]["vidmatte"])["step"] == 8 and path.name.startswith("exp"):
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        written(tensors, path, **given)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(
        WriteError, match=r"checkpoint of step 8 cannot be written \(No space left on device\)"
    ) as error:
        run(folder)
    assert "the previous one is kept" in str(error.value)
    assert json.loads((folder / "run.json").read_text())["step"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]
    monkeypatch.setattr(checkpoints, "save_file", written)
    run(folder)
    assert same(weights(tmp_path / "whole"), weights(folder))


def test_a_run_killed_between_the_two_renames_is_found(tmp_path):
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", breaking_at(6))
    (tmp_path / "run").rename(tmp_path / ".run.vidmatte-old")
    (tmp_path / ".run.vidmatte-part").mkdir()
    (tmp_path / ".run.vidmatte-part" / "weights.safetensors").write_bytes(b"half of it")
    run(tmp_path / "run")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(
        WriteError, match=r"run: holds notes\.txt, which is no part of a checkpoint"
    ):
        run(tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_checkpoints_of_something_else_are_refused(tmp_path):
    run(tmp_path / "run", steps=4)
    with pytest.raises(ModelError, match=r"was begun with rate 0\.05, not 0\.1"):
        run(tmp_path / "run", rate=0.1)
    with pytest.raises(ModelError, match="is a run of part 'line', not of 'curve'"):
        run(tmp_path / "run", dataclasses.replace(PART, name="curve"))

    class Wider(Line):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1)

    with pytest.raises(ModelError, match=r"linear\.weight is \(1, 3\) instead of \(1, 4\)"):
        run(tmp_path / "run", dataclasses.replace(PART, make=Wider))
    run(tmp_path / "run", steps=6)  # a longer run is the same run
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ModelError, match=r"its run\.json is damaged"):
        run(tmp_path / "run")


def test_runs_of_earlier_versions_go_on(tmp_path):
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", breaking_at(9))
    path = tmp_path / "run" / "run.json"
    saved = json.loads(path.read_text())
    for new in ("part", "scaler"):
        del saved[new]
    # Fields of later versions are missing, and count as their defaults, which this run has; its
    # precision is another.
    for new in ("final", "betas", "decay", "accumulate", "processes"):
        del saved["config"][new]
    path.write_text(json.dumps(saved))
    run(tmp_path / "run")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_the_rate_warms_up_and_falls_or_stays():
    falling, constant = config(steps=100, warm_up=10), config(steps=100, warm_up=10, final=1.0)
    assert schedule(0, 0.0, constant) == pytest.approx(0.1)
    assert [schedule(step, step / 100, constant) for step in (9, 50, 99)] == [1, 1, 1]
    assert schedule(50, 0.5, falling) == pytest.approx((1 + 0.02) / 2)
    assert schedule(99, 0.99, falling) == pytest.approx(0.02, abs=1e-3)


def test_a_run_ends_after_its_minutes_and_is_saved(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr("vidmatte.train.loop.time.monotonic", lambda: next(clock))
    done = []
    train(
        config(steps=1000, minutes=2.0, save_every=500),
        tmp_path / "run",
        PART,
        log=done.append,
    )
    # Each look at the clock takes 20 seconds, and a step looks twice.
    assert json.loads((tmp_path / "run" / "run.json").read_text())["step"] == 3


def test_a_limit_of_time_needs_a_single_process():
    with pytest.raises(OptionError, match="several processes"):
        config(minutes=1.0, processes=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 0}, "accumulate 0 is not valid"),
        ({"precision": "int8"}, "precision 'int8' is not valid"),
    ],
)
def test_what_makes_no_run_is_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        config(**changes)


def test_figures_go_to_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    validate = lambda net: {"SAD": 3.0}  # noqa: E731
    settings = config(steps=40, validate_every=40)
    train(
        settings, tmp_path / "run", PART, log=lambda line: None, validate=validate, tensorboard=True
    )
    events = EventAccumulator(str(tmp_path / "run.tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/error")] == [20, 40]
    assert [event.value for event in events.Scalars("validation/SAD")] == [3.0]
