"""The checkpoint of a run, a folder.

It holds `weights`, `average` (the exponential moving average, which ships) and the optimiser's
moments as safetensors files, and `run.json` with the configuration, the step and the figures of
every validation. The files are written beside the folder, flushed and put in its place together:
a whole checkpoint is always there. The weights carry the configuration; `--model` and
`--weights` take them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from vidmatte.errors import ModelError, WriteError
from vidmatte.model.weights import load_strictly, load_tensors
from vidmatte.train.processes import Processes

if TYPE_CHECKING:
    from vidmatte.train.config import LoopConfig

# AdamW's two moments of the gradient.
_MOMENTS = ("exp_avg", "exp_avg_sq")
_COUNTS = "step"
_FILES = {
    "run.json",
    *(f"{name}.safetensors" for name in ("weights", "average", *_MOMENTS, _COUNTS)),
}
_FREE = (
    "steps",
    "workers",
    "device",
    "save_every",
    "validate_every",
    "minutes",
    "corpus",
    "data",
    "held_out",
    "sd",
    "cache",
    "cache_gigabytes",
)
"""Settings that may change when a run is resumed: lengths, places, and paths."""


@dataclass(frozen=True)
class State:
    """Everything changed by a step, with its part and configuration."""

    part: str
    config: LoopConfig
    net: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor]


def save_run(
    run: Path, state: State, step: int, history: Sequence[Mapping[str, float]] = ()
) -> None:
    """Write a checkpoint in place of the previous one.

    Raises WriteError if it cannot be written, as on a full disk; the previous one is then kept.
    """
    parts: dict[str, dict[str, Tensor]] = {
        "weights": dict(state.net.state_dict()),
        "average": state.average,
    }
    for moment in _MOMENTS:
        parts[moment] = {
            name: state.optimiser.state[value][moment]
            for name, value in state.net.named_parameters()
            if value in state.optimiser.state
        }
    # Not equal to the run's step: AdamW does not count steps with an overflow in float16.
    parts[_COUNTS] = {
        name: state.optimiser.state[value]["step"].reshape(1)
        for name, value in state.net.named_parameters()
        if value in state.optimiser.state
    }
    facts = {"step": step, "part": state.part, "config": asdict(state.config)}
    kept = {**facts, "scaler": state.scaler.state_dict(), "validation": list(history)}
    fresh = _beside(run, "part")
    old = _beside(run, "old")
    _refuse_strange_files(run)
    try:
        _remove(fresh)
        fresh.mkdir(parents=True)
        for name, tensors in parts.items():
            whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(
                whole, fresh / f"{name}.safetensors", metadata={"vidmatte": json.dumps(facts)}
            )
        (fresh / "run.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
        # Files first, then the folder that lists them: no rename before all is on the disk.
        for path in (*fresh.iterdir(), fresh):
            _to_disk(path)
        _remove(old)
        with suppress(FileNotFoundError):
            # Two renames: a crash in between leaves the old folder, which `load_run` takes back.
            run.rename(old)
        fresh.rename(run)
        _remove(old)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            _remove(fresh)
        reason = getattr(error, "strerror", None) or str(error)
        raise WriteError(
            f"{run}: the checkpoint of step {step} cannot be written ({reason}); the "
            f"previous one is kept: free some space, and run the same command again to resume"
        ) from error


def load_run(
    run: Path, state: State, processes: Processes
) -> tuple[int, list[Mapping[str, float]]]:
    """Restore a checkpoint in place; return its step and the validations so far.

    The step is 0 if there is no checkpoint. Raises ModelError if the checkpoint is damaged, or of
    another part or configuration.
    """
    _refuse_strange_files(run)
    old = _beside(run, "old")
    # A crash came between the two renames of `save_run`.
    if processes.is_first and not (run / "run.json").exists() and (old / "run.json").exists():
        old.rename(run)
    # The others wait until the first process has put the folder in its place.
    processes.wait()
    if not (run / "run.json").exists():
        return 0, []
    saved = _read(run)
    _refuse_another(run, saved, state)
    step = int(saved["step"])
    load_strictly(
        state.net, load_tensors(run / "weights.safetensors"), str(run / "weights.safetensors")
    )
    for name, value in load_tensors(run / "average.safetensors").items():
        # In place: the loop holds these tensors.
        state.average[name].copy_(value)
    moments = {moment: load_tensors(run / f"{moment}.safetensors") for moment in _MOMENTS}
    counts = (
        load_tensors(run / f"{_COUNTS}.safetensors")
        if (run / f"{_COUNTS}.safetensors").exists()
        else {}
    )
    for name, parameter in state.net.named_parameters():
        if name in moments["exp_avg"]:
            found = {
                moment: torch.empty_like(parameter).copy_(moments[moment][name])
                for moment in _MOMENTS
            }
            # Checkpoints from before the counts were kept have taken every step.
            count = float(counts[name][0]) if name in counts else float(step)
            state.optimiser.state[parameter] = {"step": torch.tensor(count), **found}
    if saved.get("scaler"):
        state.scaler.load_state_dict(saved["scaler"])
    return step, list(saved.get("validation", []))


def _beside(run: Path, what: str) -> Path:
    """Return a hidden folder beside that of a run, for internal use."""
    return run.with_name(f".{run.name}.vidmatte-{what}")


def _refuse_strange_files(run: Path) -> None:
    """Raise WriteError if the folder holds other files: a checkpoint would replace them."""
    strange = sorted({path.name for path in run.iterdir()} - _FILES) if run.is_dir() else []
    if strange:
        raise WriteError(
            f"{run}: holds {strange[0]}, which is no part of a checkpoint; move it away, or name "
            f"another folder"
        )


def read_facts(run: str | Path) -> dict[str, Any]:
    """Return step, part and configuration of a run. Raises ModelError if there is none."""
    return _read(Path(run))


def _read(run: Path) -> dict[str, Any]:
    try:
        saved = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return {**saved, "step": int(saved["step"]), "config": dict(saved["config"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{run}: its run.json is damaged ({error}); start in another folder"
        ) from error


def _refuse_another(run: Path, saved: Mapping[str, Any], state: State) -> None:
    part = saved.get("part", state.part)
    if part != state.part:
        raise ModelError(
            f"{run}: is a run of part {part!r}, not of {state.part!r}; name another folder"
        )
    # Through JSON, so that tuples compare equal to the lists of the file.
    asked = json.loads(json.dumps(asdict(state.config)))
    # A run from before a choice existed was begun with its default.
    defaults = {
        field.name: json.loads(json.dumps(field.default))
        for field in fields(state.config)
        if field.default is not MISSING
    }
    for name, value in {**defaults, **saved["config"]}.items():
        if name not in _FREE and asked.get(name, value) != value:
            raise ModelError(
                f"{run}: was begun with {name} {value}, not {asked[name]}; give the same value, or "
                f"start in another folder (--start takes the weights along)"
            )


def _to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's list of files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    if folder.exists():
        # Only files of our own are there, so no folder is removed in depth.
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
