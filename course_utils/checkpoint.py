"""Files from which a run goes on: what stands in them, and whether they belong to the run that asks."""

import copy
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_utils import files

# How torch computes a step, not what: it may differ between machines.
_IMPLEMENTATION = ("params", "fused", "foreach", "capturable", "differentiable")


class CheckpointError(RuntimeError):
    """A checkpoint file cannot be read, or belongs to another run."""


def save_atomically(state: dict, path: str | Path) -> None:
    """Write ``torch.save(state)`` to ``path`` so that a reader finds the old file or the new one, never half of one.

    Raises:
        OSError: it cannot be written, such as "No space left on device"; the old file stays.
    """
    with files.whole(path) as file:
        torch.save(state, file)


def need_place(path: Path) -> None:
    """Find out before training whether a checkpoint could be written.

    Raises:
        CheckpointError: ``path`` is a folder.
        OSError: no permission, a name that is too long, or another reason, which the message gives.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name a file in it: checkpoint={str(path / 'run.pt')!r}.")
    files.need_writable(path)


def read(path: Path, parts: set[str], cure: str) -> dict:
    """Read a checkpoint with torch's safe reader, which runs no code from the file.

    Args:
        path: the file.
        parts: keys that it must hold.
        cure: what to do about a file that is none, for the message.

    Raises:
        CheckpointError: it cannot be read, or lacks a part.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if set(state) != parts:
            raise KeyError("it lacks parts of a run")
    except Exception as error:  # what is not a checkpoint fails in many ways, and the cure is the same
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}). {cure}") from error
    return state


# --- settings ----------------------------------------------------------------------------------------------------------------


def settings(optimizer: torch.optim.Optimizer, scheduler: object) -> dict:
    """What was asked of an optimizer and a scheduler: numbers such as ``lr`` and ``step_size``, in types of Python.

    Functions, as `LambdaLR` has them, cannot be written down and so are never compared.
    """
    groups = [{name: group[name] for name in group if name not in _IMPLEMENTATION} for group in optimizer.param_groups]
    return {"optimizer": plain(groups), "scheduler": None if scheduler is None else plain(scheduler.state_dict())}


def difference(first: object, last: object, now: object, name: str = "") -> str:
    """The first setting that is another one now, in words; empty when there is none.

    Args:
        first: `settings` at the beginning of the run that wrote the checkpoint.
        last: the same when it was written. What moved in between (the learning rate under a schedule) is no setting.
        now: `settings` of the run that wants to go on. Parts that one side lacks are not compared: another torch may name more.
        name: where in the settings this is.
    """
    if all(isinstance(value, dict) and all(isinstance(key, str) for key in value) for value in (first, last, now)):
        pairs = [(str(key), first[key], last[key], now[key]) for key in first if key in last and key in now]
    elif isinstance(first, (list, tuple)) and isinstance(now, (list, tuple)) and len(first) == len(last) == len(now):
        pairs = [(name, *values) for values in zip(first, last, now, strict=True)]
    else:
        moved = not _equal(first, last)
        return "" if moved or _equal(first, now) else f"{name} is {now} and was {first}"
    return next(filter(None, (difference(*values, key) for key, *values in pairs)), "")


def _equal(one: object, two: object) -> bool:
    if isinstance(one, Tensor) or isinstance(two, Tensor):
        return isinstance(one, Tensor) and isinstance(two, Tensor) and torch.equal(one.cpu(), two.cpu())
    return one == two or (one != one and two != two)


def plain(state: object) -> object:
    """Turn NumPy's numbers (a schedule may compute with them) into Python's: the safe reader of checkpoints takes no others."""
    if isinstance(state, dict):
        copied = copy.copy(state)  # keeps the kind of dict: MultiStepLR counts its milestones in a Counter
        for key, value in state.items():
            copied[key] = plain(value)
        return copied
    if isinstance(state, (list, tuple)):
        return type(state)(plain(value) for value in state)
    return state.item() if isinstance(state, np.generic) else state


# --- random numbers ----------------------------------------------------------------------------------------------------------


def generators(loader: object) -> list[torch.Generator]:
    """The generators that a loader and its sampler own, each once."""
    owners = (loader, getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(generator): generator for generator in found if generator is not None}.values())


def random_state(own: list[torch.Generator]) -> dict:
    """State of torch's, NumPy's and Python's global generators, and of some of a loader's ``own``."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - a batch transform may draw from the global state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "python": random.getstate(),
        "generators": [generator.get_state() for generator in own],
    }


def set_random_state(state: dict, own: list[torch.Generator]) -> None:
    """Put back what `random_state` took.

    Raises:
        ValueError: the loader had another number of generators.
    """
    if len(state["generators"]) != len(own):
        raise ValueError(f"it was saved with {len(state['generators'])} generators in the loader, and now there are {len(own)}")
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    for generator, saved in zip(own, state["generators"], strict=True):
        generator.set_state(saved)
