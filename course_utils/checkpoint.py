"""A run of `train.fit` that can be stopped and go on: what its file holds, and whether a file belongs to a run."""

import copy
import io
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from course_utils import batches, files, parallel, runtime
from course_utils.history import EarlyStopping, History
from course_utils.schedules import Schedule


class CheckpointError(RuntimeError):
    """A checkpoint file cannot be read, or belongs to another run."""


class Run:
    """All that changes while a run goes on, and so must be saved to go on later.

    Args:
        model, optimizer, schedule, scaler, train_loader: of the run; the state that they are in is the run's.
        path: the checkpoint; ``None`` keeps none.

    Attributes:
        history: the epochs so far.
        best: weights of the best epoch, where there is a rule of early stopping.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        scaler: torch.amp.GradScaler,
        train_loader: batches.Batches,
        path: str | Path | None,
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.scaler = model, optimizer, schedule.scheduler, scaler
        self.train_loader, self.schedule = train_loader, schedule
        self.path = None if path is None else Path(path).expanduser()
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.settings: dict = {}
        if self.scheduler is not None:  # NumPy's numbers do not compute after a checkpoint as before it
            self.scheduler.load_state_dict(_plain(self.scheduler.state_dict()))

    def begin(self, epochs: int, val_loader: batches.Batches | None, rule: EarlyStopping | None) -> None:
        """Go on from the checkpoint if there is one, and refuse now what would fail later.

        Raises:
            CheckpointError: the file is damaged, a folder, of another run or of more epochs, or could not be read again.
            ValueError: the schedule ends before the run.
            OSError: the file cannot be written.
        """
        if self.path is not None:
            self.settings = _settings(self.model, self.optimizer, self.schedule, self.path)
            if self.path.is_file():
                self._load(self.path, epochs, val_loader, rule)
            elif runtime.rank() == 0:
                _need_readable(self._moving() | {"settings": self.settings})
            if runtime.rank() == 0:
                if self.path.is_dir():
                    name = str(self.path / "run.pt")
                    raise CheckpointError(f"{self.path} is a folder; name a file in it: checkpoint={name!r}.")
                files.need_writable(self.path)
        self.schedule.need_length(len(self.history.rows), epochs, batches.length(self.train_loader))

    def start_as_rank_0(self) -> None:
        """Take over the random state of rank 0, whose weights have come already.

        Raises:
            CheckpointError: rank 0 goes on from another file.
        """
        if runtime.world_size() == 1:
            return
        own, done = _generators(self.train_loader), len(self.history.rows)
        epochs, state = parallel.from_first((done, _random_state(own)))
        if epochs != done:
            raise CheckpointError(f"rank 0 goes on after epoch {epochs} of {self.path}: put it where all machines see it.")
        state["cuda"] = state["cuda"][:1] * len(state["cuda"])  # rank 0 trains on the first
        _set_random_state(state, own)

    def keep_best(self, rule: EarlyStopping | None) -> None:
        """Judge the epochs so far by a rule, and keep the weights if the last one is the best."""
        self.history.judge(rule)
        if rule is None:
            self.best = None
        elif self.history.best_epoch == len(self.history.rows):
            self.best = copy.deepcopy(self.model.state_dict())

    def save(self) -> None:
        """Write the checkpoint, if one is kept, whole or not at all.

        Raises:
            OSError: it cannot be written, such as "No space left on device"; the old file stays.
        """
        if self.path is None:
            return
        if runtime.rank() == 0:
            state = {"settings": self.settings, "model": self.model.state_dict(), "best": self.best}
            state |= {"random": _random_state(_generators(self.train_loader)), "history": vars(self.history)}
            with files.whole(self.path) as file:
                torch.save(state | self._moving(), file)
        parallel.from_first(None)  # nobody goes on, and reads the file before it is there

    def kept(self, epoch: int) -> str:
        """A sentence about the checkpoint, for who is told that the epoch after ``epoch`` failed; empty where there is none."""
        return f" {self.path} keeps epoch {epoch}, the last good one." if self.path is not None and self.path.exists() else ""

    def _moving(self) -> dict:
        """State of what steps and counts, but for the weights."""
        return {
            "optimizer": _plain(self.optimizer.state_dict()),
            "scheduler": None if self.scheduler is None else _plain(self.scheduler.state_dict()),
            "scaler": self.scaler.state_dict(),
        }

    def _load(self, path: Path, epochs: int, val_loader: batches.Batches | None, rule: EarlyStopping | None) -> None:
        """Take over what the file holds; one that does not belong to this run leaves the run as it is."""
        cure = f"Delete {path} to start again, or give the run another checkpoint file."
        another = f"{path} belongs to another model, optimizer, schedule or loader"
        state, generators = _read(path, cure), _generators(self.train_loader)
        other = (
            _difference(state["settings"], self.settings)
            or _other_weights(state["model"], self.model.state_dict())
            or _other_generators(state["random"], generators)
        )
        if other:
            raise CheckpointError(f"{another} ({other}). {cure}")
        history = History(**state["history"])
        done = len(history.rows)
        if epochs < done:
            raise CheckpointError(f"{path} is of {done} epochs already, and this run asks for {epochs}. {cure}")
        # Its best epoch's weights are there if that is the last epoch, or was the best by the rule of that time.
        kept = {done} if state["best"] is None else {done, history.best_epoch}
        try:
            history.judge(rule)
        except ValueError as error:
            raise CheckpointError(f"{path} was made without what early stopping needs ({error}) {cure}") from error
        if history.best_epoch not in kept:
            raise CheckpointError(f"{path} does not keep the best epoch by this rule of early stopping. {cure}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            if state["scaler"] and self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            for loader in (self.train_loader, val_loader):
                if loader is not None and getattr(loader, "persistent_workers", False):
                    iter(loader)  # their start draws a number, which the run that is gone on with has drawn already
            _set_random_state(state["random"], generators)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"{another} ({error}). {cure}") from error
        self.history, self.best = history, state["best"]
        self.keep_best(rule)


# --- the file ----------------------------------------------------------------------------------------------------------------

_PARTS = {"settings", "model", "optimizer", "scheduler", "scaler", "best", "history", "random"}


def _read(path: Path, cure: str) -> dict:
    """Read a checkpoint with torch's safe reader, which runs no code from the file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if set(state) != _PARTS:
            raise KeyError("it lacks parts of a run")
    except Exception as error:  # what is not a checkpoint fails in many ways, and the cure is the same
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise CheckpointError(f"{path} is not a readable checkpoint ({type(error).__name__}: {reason}). {cure}") from error
    return state


def _need_readable(state: dict) -> None:
    """Find out before training whether what is going to be written could be read again."""
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


def _plain(state: Any) -> Any:
    """Turn NumPy's numbers (a schedule may compute with them) into Python's: the safe reader of checkpoints takes no others."""
    if isinstance(state, dict):
        copied = copy.copy(state)  # keeps the kind of dict: MultiStepLR counts its milestones in a Counter
        copied.clear()
        copied.update({_plain(key): _plain(value) for key, value in state.items()})
        return copied
    if isinstance(state, (list, tuple)):
        return type(state)(_plain(value) for value in state)
    return state.item() if isinstance(state, np.generic) else state


# --- settings ----------------------------------------------------------------------------------------------------------------

# How torch computes a step, not what: it may differ between machines.
_IMPLEMENTATION = ("params", "fused", "foreach", "capturable", "differentiable")
# By optimizer: the file and the schedule with which it began a run, and what it was asked for then. When an interrupted cell is
# run again, optimizer and schedule have moved, and are still the same ones.
_BEGUN: weakref.WeakKeyDictionary[torch.optim.Optimizer, tuple[Path, Callable[[], object], dict]] = weakref.WeakKeyDictionary()


def _settings(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, path: Path) -> dict:
    """What was asked of an optimizer and a scheduler, in types of Python: kinds, numbers such as ``lr``, order of parameters.

    Functions, as `LambdaLR` has them, cannot be written down and so are never compared. An optimizer that has begun a run with
    this very file before is asked for what it was asked for then.
    """
    scheduler, began = schedule.scheduler, _BEGUN.get(optimizer)
    if began is not None and began[0] == path.absolute() and began[1]() is scheduler:
        return began[2]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        numbers = {name: _as_python(group[name]) for name in group if name not in _IMPLEMENTATION}
        groups.append(numbers | {"parameters": [names.get(id(p)) or f"one of shape {tuple(p.shape)}" for p in group["params"]]})
    rates = None if scheduler is None else _as_python(_plain(scheduler.state_dict()))
    asked = {"model": type(model).__name__, "optimizer": type(optimizer).__name__, "scheduler": _kind(scheduler)}
    every = "step" if schedule.by_step else "epoch"
    found = {"kinds": asked, "schedule_every": every, "groups": groups, "schedule": rates}
    _BEGUN[optimizer] = path.absolute(), (lambda: None) if scheduler is None else weakref.ref(scheduler), found
    return found


def _kind(scheduler: object) -> str:
    """Class of a scheduler, with those of the schedulers in it."""
    inner = [_kind(part) for part in getattr(scheduler, "_schedulers", ())]
    return type(scheduler).__name__ + (f" of {', '.join(inner)}" if inner else "")


def _difference(then: Any, now: Any, name: str = "") -> str:
    """The first setting that is another one now, in words; empty when there is none.

    Names that one side lacks are not compared: another torch may have more of them.
    """
    if all(isinstance(value, dict) and all(isinstance(key, str) for key in value) for value in (then, now)):
        triples = [(then[key], now[key], key) for key in then if key in now]
    elif isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)) and len(then) == len(now):
        triples = [(*values, name) for values in zip(then, now, strict=True)]
    else:
        same = then == now or (then != then and now != now)
        return "" if same else f"{name} is {now} and was {then}"
    return next(filter(None, (_difference(*triple) for triple in triples)), "")


def _as_python(state: Any) -> Any:
    """Settings that no later step can change: tensors as lists or numbers."""
    if isinstance(state, dict):
        return {key: _as_python(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(_as_python, state))
    return state.tolist() if isinstance(state, (Tensor, np.generic)) else state


def _other_weights(then: dict, now: dict) -> str:
    """The first weight that is another one in shape, or is there on one side only, in words; empty when all are alike."""
    for name in [*then, *now]:
        if name in now and is_lazy(now[name]):
            continue  # gets its shape from the file
        shapes = [tuple(part[name].shape) if isinstance(part.get(name), Tensor) else name in part for part in (then, now)]
        if shapes[0] != shapes[1]:
            was, here = ("missing" if found is False else f"of shape {found}" for found in shapes)
            return f"{name} is {here} and was {was}"
    return ""


def _other_generators(state: dict, own: list[torch.Generator]) -> str:
    """Whether a loader has other generators than the one whose state was saved, in words; empty when it has as many."""
    was = len(state["generators"])
    return "" if was == len(own) else f"it was saved with {was} generators in the loader, and now there are {len(own)}"


# --- random numbers ----------------------------------------------------------------------------------------------------------


def _generators(loader: object) -> list[torch.Generator]:
    """The generators that a loader and its sampler own, each once."""
    owners = (loader, getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(generator): generator for generator in found if generator is not None}.values())


def _random_state(own: list[torch.Generator]) -> dict:
    """State of torch's, NumPy's and Python's global generators, and of some of a loader's ``own``."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - a batch transform may draw from the global state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "python": random.getstate(),
        "generators": [generator.get_state() for generator in own],
    }


def _set_random_state(state: dict, own: list[torch.Generator]) -> None:
    """Put back what `_random_state` took of as many generators."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    for generator, saved in zip(own, state["generators"], strict=True):
        generator.set_state(saved)
