"""The processes of torchrun: each has its own batches, all share the weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import nn

from vidmatte.errors import OptionError


@dataclass(frozen=True)
class Processes:
    """The rank of this process, the number of all, and the device of this one."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process for writing files."""
        return self.rank == 0

    def share(self, turn: int) -> int:
        """Return the number of this process's batch in a turn of all processes."""
        return turn * self.count + self.rank

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()


def count_processes() -> int:
    """Return the number of processes of torchrun; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_device(device: str) -> torch.device:
    """Return the device of this process: of several CUDA devices, the one with its local rank.

    Raises OptionError if there is none.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cuda":
        return torch.device("cpu")
    if torch.cuda.device_count() <= local:
        raise OptionError(
            f"expected a CUDA device for each process, found {torch.cuda.device_count()}; choose "
            f"--device cpu"
        )
    return torch.device("cuda", local)


@contextmanager
def together(device: str, processes: int) -> Iterator[Processes]:
    """Join the other processes, if there are any; leave them at the end.

    Raises OptionError if the device is missing, or torchrun started another number of processes.
    """
    count = count_processes()
    rank = int(os.environ.get("RANK", "0"))
    if count != processes:
        raise OptionError(
            f"expected {processes} processes, found {count}: start the run with "
            f"torchrun --nproc-per-node {processes} -m vidmatte train ..."
        )
    place = own_device(device)
    if count == 1:
        yield Processes(0, 1, place)
        return
    if device == "cuda":
        torch.cuda.set_device(place)
    # NCCL for GPUs, Gloo for CPUs, as torch recommends.
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(rank, count, place)
    finally:
        distributed.destroy_process_group()


def sum_gradients(net: nn.Module, processes: Processes) -> None:
    """Replace gradients by their mean over all processes, in one transfer."""
    if processes.count == 1:
        return
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    gradients = []
    for parameter in parameters:
        # A part that is switched off has no gradient, on any process.
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients.append(gradient.reshape(-1))
    flat = torch.cat(gradients)
    distributed.all_reduce(flat)
    flat /= processes.count
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone(memory_format=torch.preserve_format)
