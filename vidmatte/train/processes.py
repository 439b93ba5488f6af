"""Several processes that train together, started by torchrun: each has its batches, all have the same weights."""

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
    """Which of how many this is, and where it computes."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def share(self, turn: int) -> int:
        """The number of the batch that this process takes in a turn of all."""
        return turn * self.count + self.rank

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            distributed.barrier()


def count_processes() -> int:
    """How many torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_device(device: str) -> torch.device:
    """The device of this process: of several CUDA devices that of its number on this machine.

    Raises OptionError where there is none.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cuda":
        return torch.device("cpu")
    if torch.cuda.device_count() <= local:
        raise OptionError(
            f"a CUDA device for each process asked for, found {torch.cuda.device_count()}; choose --device cpu"
        )
    return torch.device("cuda", local)


@contextmanager
def together(device: str, processes: int) -> Iterator[Processes]:
    """Join the other processes, if there are any; leave them at the end.

    Raises OptionError where a device is asked for that is not there, or torchrun started another number of processes.
    """
    count, rank = count_processes(), int(os.environ.get("RANK", "0"))
    if count != processes:
        raise OptionError(
            f"a run of {processes} processes asked for, and there are {count}: start it with "
            f"torchrun --nproc-per-node {processes} -m vidmatte train ..."
        )
    place = own_device(device)
    if count == 1:
        yield Processes(0, 1, place)
        return
    if device == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(rank, count, place)
    finally:
        distributed.destroy_process_group()


def sum_gradients(net: nn.Module, processes: Processes) -> None:
    """Replace gradients by their mean over all processes; one transfer for all of them."""
    if processes.count == 1:
        return
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    flat = torch.cat(
        [
            (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).reshape(-1)
            for parameter in parameters
        ]
    )
    distributed.all_reduce(flat)
    flat /= processes.count
    for parameter, part in zip(
        parameters, torch.split(flat, [parameter.numel() for parameter in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter).clone(memory_format=torch.preserve_format)
