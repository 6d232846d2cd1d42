"""Files from which a run goes on: what stands in them, and whether they belong to the run that asks."""

import copy
import io
import random
import weakref
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

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
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise CheckpointError(f"{path} is not a readable checkpoint ({type(error).__name__}: {reason}). {cure}") from error
    return state


# --- settings ----------------------------------------------------------------------------------------------------------------

# By optimizer: the file and the schedule with which it began a run, and what it was asked for then. When an interrupted cell is
# run again, optimizer and schedule have moved, and are still the same ones.
_BEGUN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def settings(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: object, every: str, path: Path) -> dict:
    """What was asked of an optimizer and a scheduler, in types of Python: kinds, numbers such as ``lr``, order of parameters.

    Functions, as `LambdaLR` has them, cannot be written down and so are never compared. An optimizer that has begun a run with
    this very file before is asked for what it was asked for then.
    """
    began = _BEGUN.get(optimizer)
    if began is not None and began[0] == path.absolute() and began[1]() is scheduler:
        return began[2]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        numbers = {name: _as_python(group[name]) for name in group if name not in _IMPLEMENTATION}
        groups.append(numbers | {"parameters": [names.get(id(p)) or f"one of shape {tuple(p.shape)}" for p in group["params"]]})
    schedule = None if scheduler is None else _as_python(plain(scheduler.state_dict()))
    asked = {"model": type(model).__name__, "optimizer": type(optimizer).__name__, "scheduler": kind(scheduler)}
    found = {"kinds": asked, "schedule_every": every, "groups": groups, "schedule": schedule}
    _BEGUN[optimizer] = path.absolute(), (lambda: None) if scheduler is None else weakref.ref(scheduler), found
    return found


def kind(scheduler: object) -> str:
    """Class of a scheduler, with those of the schedulers in it."""
    inner = [kind(part) for part in getattr(scheduler, "_schedulers", ())]
    return type(scheduler).__name__ + (f" of {', '.join(inner)}" if inner else "")


def difference(then: object, now: object, name: str = "") -> str:
    """The first setting that is another one now, in words; empty when there is none.

    Names that one side lacks are not compared: another torch may have more of them.
    """
    if all(isinstance(value, dict) and all(isinstance(key, str) for key in value) for value in (then, now)):
        pairs = [(key, then[key], now[key]) for key in then if key in now]
    elif isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)) and len(then) == len(now):
        pairs = [(name, *values) for values in zip(then, now, strict=True)]
    else:
        same = then == now or (then != then and now != now)
        return "" if same else f"{name} is {now} and was {then}"
    return next(filter(None, (difference(*values, key) for key, *values in pairs)), "")


def _as_python(state: object) -> object:
    """Settings that no later step can change: tensors as lists or numbers."""
    if isinstance(state, dict):
        return {key: _as_python(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(_as_python, state))
    return state.tolist() if isinstance(state, (Tensor, np.generic)) else state


def other_weights(then: dict, now: dict) -> str:
    """The first weight that is another one in shape, or is there on one side only, in words; empty when all are alike."""
    for name in [*then, *now]:
        if is_lazy(now.get(name)):
            continue  # gets its shape from the file
        shapes = [tuple(part[name].shape) if isinstance(part.get(name), Tensor) else name in part for part in (then, now)]
        if shapes[0] != shapes[1]:
            was, here = ("missing" if found is False else f"of shape {found}" for found in shapes)
            return f"{name} is {here} and was {was}"
    return ""


def other_generators(state: dict, own: list[torch.Generator]) -> str:
    """Whether a loader has other generators than the one whose state was saved, in words; empty when it has as many."""
    was = len(state["generators"])
    return "" if was == len(own) else f"it was saved with {was} generators in the loader, and now there are {len(own)}"


def plain(state: object) -> object:
    """Turn NumPy's numbers (a schedule may compute with them) into Python's: the safe reader of checkpoints takes no others."""
    if isinstance(state, dict):
        copied = copy.copy(state)  # keeps the kind of dict: MultiStepLR counts its milestones in a Counter
        copied.clear()
        copied.update({plain(key): plain(value) for key, value in state.items()})
        return copied
    if isinstance(state, (list, tuple)):
        return type(state)(plain(value) for value in state)
    return state.item() if isinstance(state, np.generic) else state


def need_readable(state: dict) -> None:
    """Find out before training whether what is going to be written could be read again.

    Raises:
        CheckpointError: it could not, for the reason in the message.
    """
    try:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        raise CheckpointError(
            "a checkpoint of this optimizer and schedule could not be read again, since something in them is more than numbers "
            f"({type(error).__name__}: {reason[0][:200]}). Give them Python's numbers and lists, or train without checkpoint=."
        ) from error


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
    """Put back what `random_state` took of as many generators."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    for generator, saved in zip(own, state["generators"], strict=True):
        generator.set_state(saved)
