"""The training loop, in order: draw, sum gradients, step, average, validate, keep.

It runs on one device or, with torchrun, on many.

Everything random is a function of the step, so on the processor a resumed run ends with the weights
of an unbroken one; see `checkpoint.py` for the files of a run. The task of a run is a
`TrainingTask`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import deterministic
from torch.utils.data import DataLoader, Dataset

from vidmatte.errors import MissingExtraError
from vidmatte.media.closing import Closing
from vidmatte.model.losses import Batch, optimizer_step
from vidmatte.train.checkpoint import State, load_run, save_run
from vidmatte.train.config import DTYPES, LoopConfig
from vidmatte.train.processes import Processes, sum_gradients, together

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Net = TypeVar("Net", bound=nn.Module)
_LOG_EVERY = 20


ParameterGroup = dict[str, Any]
"""A group of parameters as PyTorch's optimisers take it."""


@dataclass(frozen=True)
class TrainingTask(Generic[Net]):
    """A task of training: a network, its data and its loss.

    Attributes:
        name: of a run's kind, kept in its checkpoint.
        batches: the data of a configuration. Item k is the k-th batch of the run, determined by the
            configuration and k.
        loss: of (network, batch, generator, precision): the loss, and figures by name.
        groups: of (network, configuration): the optimiser's parameter groups; a group with
            `rate_share` learns at a share of the rate. None for all parameters at one rate.
        initial: the network of a new run; None for that of `make`.
    """

    name: str
    make: Callable[[], Net]
    batches: Callable[[Any], Dataset[Batch]]
    loss: Callable[[Net, Batch, torch.Generator, torch.dtype], tuple[Tensor, dict[str, float]]]
    groups: Callable[[Net, Any], list[ParameterGroup]] | None = None
    initial: Callable[[], Net] | None = None


def train(
    config: LoopConfig,
    run: str | Path,
    part: TrainingTask[Net],
    *,
    start: Net | None = None,
    validate: Callable[[Net], Mapping[str, float]] | None = None,
    log: Callable[[str], None] = print,
    tensorboard: bool = False,
) -> Net:
    """Train a part, or resume the run in folder `run`; return the averaged network.

    Args:
        start: weights to begin a new run with; ignored if the run has a checkpoint.
        validate: returns the figures of an averaged network, a copy; see `validate.py`.
        log: receives one line every 20 steps and one for each validation.
        tensorboard: whether the figures are also written for TensorBoard, to the folder
            RUN.tensorboard.

    Raises:
            ModelError: If the checkpoint in the folder is damaged, or of another configuration or
                part.
            WriteError: If a checkpoint cannot be written; the previous one stays.
    """
    with together(config.device, config.processes) as processes, _repeatable(processes.device):
        # Networks are made alike in all processes, and in a repeated run.
        torch.manual_seed(config.seed)
        net = start or part.make()
        net.to(processes.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = part.groups(net, config) if part.groups else [{"params": list(net.parameters())}]
        optimiser = torch.optim.AdamW(
            groups, lr=config.rate, betas=config.betas, weight_decay=config.decay
        )
        scaler = torch.amp.GradScaler(processes.device.type, enabled=config.precision == "float16")
        average = {name: value.detach().clone() for name, value in net.state_dict().items()}
        state = State(part.name, config, net, optimiser, scaler, average)
        first, history = load_run(Path(run), state, processes)
        began, figures = time.monotonic(), dict[str, float]()
        stream = _stream(part.batches(config), config, first, processes)
        with _events(Path(run), tensorboard and processes.is_first) as note:
            for step in range(first, config.steps):
                done = _share_done(step, config, time.monotonic() - began)
                found = _step(part, state, step, stream, processes, done)
                # Early steps count more: the first weights are random and should be forgotten.
                _update_average(average, net, min(config.average, (step + 1) / (step + 10)))
                for name, value in found.items():
                    # The log shows running means over about 50 steps.
                    figures[name] = 0.98 * figures.get(name, value) + 0.02 * value
                if (step + 1) % _LOG_EVERY == 0:
                    rate = (step + 1 - first) / (time.monotonic() - began)
                    _say(log, processes, f"{step + 1}  {rate:.2f}/s", figures)
                    note("train", figures, step + 1)
                is_over = _share_done(step + 1, config, time.monotonic() - began) >= 1
                if (
                    processes.is_first
                    and validate
                    and config.validate_every
                    and (_is_due(step, config.validate_every) or is_over)
                ):
                    history.append({"step": step + 1, **_validated(net, average, validate)})
                    _say(log, processes, "validation", history[-1], digits="4g")
                    note("validation", history[-1], step + 1)
                if processes.is_first and (is_over or _is_due(step, config.save_every)):
                    save_run(Path(run), state, step + 1, history)
                if is_over:
                    break
                # The others must not run ahead while the first process validates and writes.
                processes.wait()
        net.load_state_dict(average)
        return net


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Sum gradients in a fixed order, so that a run on the processor can be repeated to the bit.

    By default several threads of the processor add the gradient of indexing in whatever order they
    finish. On a GPU some operations have no fixed order at all.
    """
    before = torch.are_deterministic_algorithms_enabled()
    fills = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined] # a property
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Filling new memory finds code that reads it, and takes a seventh of a step.
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def _step(
    part: TrainingTask[Any],
    state: State,
    step: int,
    stream: Iterator[Batch],
    processes: Processes,
    done: float,
) -> dict[str, float]:
    """Do one step of all processes with averaged gradients; return this process's mean figures."""
    config, net, optimiser = state.config, state.net, state.optimiser
    for group in optimiser.param_groups:
        group["lr"] = config.rate * schedule(step, done, config) * group.get("rate_share", 1.0)
    optimiser.zero_grad(set_to_none=True)
    found: list[dict[str, float]] = []
    for micro_step in range(config.accumulate):
        # Micro-steps and processes share one numbering of batches.
        index = processes.share(step * config.accumulate + micro_step)
        # A large odd factor keeps the seeds of different runs apart.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        batch = {
            name: tensor.to(processes.device, non_blocking=True)
            for name, tensor in next(stream).items()
        }
        loss, figures = part.loss(net, batch, generator, DTYPES[config.precision])
        # Called by this name, as torch leaves Tensor.backward without annotations.
        torch.autograd.backward(state.scaler.scale(loss / config.accumulate))
        found.append(figures)
    # Gradients are summed over processes after unscaling: each process may have its own scale.
    state.scaler.unscale_(optimiser)
    sum_gradients(net, processes)
    optimizer_step(net, optimiser, state.scaler, clip=config.clip)
    # A term may be missing in a micro-step, such as one without masks.
    names = {
        name: [figures[name] for figures in found if name in figures]
        for figures in found
        for name in figures
    }
    return {name: sum(values) / len(values) for name, values in names.items()}


def _share_done(step: int, config: LoopConfig, elapsed: float) -> float:
    """Return how much of a run is done after so many steps and seconds, 0 to 1 or more."""
    by_steps = step / config.steps
    return max(by_steps, elapsed / (60 * config.minutes)) if config.minutes else by_steps


def schedule(step: int, done: float, config: LoopConfig) -> float:
    """Return the share of the peak rate at a step: linear warm-up, then a cosine.

    Args:
        step: number of the step.
        done: share of the run that is done.
        config: holds the warm-up and the last share.
    """
    fall = config.final + (1 - config.final) / 2 * (1 + math.cos(math.pi * done))
    return min(1.0, (step + 1) / config.warm_up) * fall


def _update_average(average: Mapping[str, Tensor], net: nn.Module, keep: float) -> None:
    new = net.state_dict()
    moving = [name for name, value in average.items() if value.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_(
            [average[name] for name in moving], [new[name].detach() for name in moving], 1 - keep
        )
        # Counters of batch normalisation and the like are copied.
        for name in average.keys() - set(moving):
            average[name].copy_(new[name])


def _is_due(step: int, every: int) -> bool:
    return bool(every) and (step + 1) % every == 0


def _validated(
    net: Net, average: Mapping[str, Tensor], validate: Callable[[Net], Mapping[str, float]]
) -> Mapping[str, float]:
    # A copy: training goes on with the other weights.
    averaged = copy.deepcopy(net)
    averaged.load_state_dict(average)
    return validate(averaged.eval())


def _say(
    log: Callable[[str], None],
    processes: Processes,
    what: str,
    figures: Mapping[str, float],
    digits: str = "4f",
) -> None:
    if processes.is_first:
        log("  ".join([what, *(f"{name} {value:.{digits}}" for name, value in figures.items())]))


def _events(run: Path, wanted: bool) -> Any:
    """Return a context manager for writing figures for TensorBoard: (kind, figures, step)."""
    if not wanted:
        return nullcontext(lambda kind, figures, step: None)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("TensorBoard", "train") from error
    return _Events(SummaryWriter(str(run.with_name(f"{run.name}.tensorboard"))))


class _Events(Closing):
    """Writes figures for TensorBoard by kind, name and step, in a `with` block."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def __call__(self, kind: str, figures: Mapping[str, float], step: int) -> None:
        """Write the figures of a kind ("train", "validation") at a step."""
        for name, value in figures.items():
            if name != "step":
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


def _stream(
    batches: Dataset[Batch], config: LoopConfig, first: int, processes: Processes
) -> Iterator[Batch]:
    """Return this process's batches from step `first` on, made ahead by worker processes."""
    done = first * config.accumulate
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=[
                processes.share(micro_step)
                for micro_step in range(done, config.steps * config.accumulate)
            ],
            num_workers=config.loaders,
            prefetch_factor=4 if config.loaders else None,
            pin_memory=config.device == "cuda" and config.loaders > 0,
        )
    )
