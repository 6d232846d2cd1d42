"""Do networks compute the same function of their weights? `ensembles.fit_together` runs all with the code of the first."""

import functools
import numbers
import re
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_STRUCTURE = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"}


def need_alike(members: Sequence[nn.Module]) -> None:
    """Raise unless all networks are built alike, layer by layer, with weights of their own.

    Compared are the classes of all parts; names, shapes, types and devices of weights and buffers; what is trained and what is
    frozen; and every attribute that is none of these, such as a dropout rate, a stride or a function.

    Args:
        members: networks, one at least.

    Raises:
        ValueError: two members share a weight or buffer, or one differs from the first; the message says in what.

    >>> need_alike([nn.Linear(2, 2), nn.Linear(2, 2)])
    """
    owners: dict[int, int] = {}
    for number, member in enumerate(members):
        for name, tensor in _tensors(member).items():
            if (owner := owners.setdefault(id(tensor), number)) != number:
                raise ValueError(
                    f"members {owner} and {number} share {name}: give each a network of its own, such as copy.deepcopy makes."
                )
    for number, member in enumerate(members[1:], 1):
        for difference in _differences(members[0], member):
            raise ValueError(
                f"member {number} is not built as member 0: {difference}. Members that are trained together run the code of "
                "the first; train these one after another with train.fit."
            )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _differences(first: nn.Module, second: nn.Module) -> Iterator[str]:
    """What makes the second network another function than the first, a clause each."""
    parts, others = (dict(model.named_modules(remove_duplicate=False)) for model in (first, second))
    known = _names(first, parts), _names(second, others)
    if list(parts) != list(others):
        yield f"its parts are {_shown(list(others)[1:])}, not {_shown(list(parts)[1:])}"
        return
    for name, part in parts.items():
        other, where = others[name], name or "the network"
        if _kind(part) != _kind(other):
            yield f"{where} is {type(other).__name__}, not {type(part).__name__}"
            return
        # As `fit_together` sets modes: a network in evaluation mode is trained as a whole, else without what is frozen.
        if (part.training or not first.training) != (other.training or not second.training):
            yield f"{where} is in evaluation mode in one of them only"
        for key in {**vars(part), **vars(other)}.keys() - _STRUCTURE:
            values = [vars(one).get(key) for one in (part, other)]
            if "_hooks" in key:  # by running numbers that mean nothing
                values = [list(hooks.values()) if hooks else [] for hooks in values]
            if not _same(*values, known, set()):
                there, here = (_shown(value) for value in values)
                yield f"{key} of {where} is {here}, not {there}" if here != there else f"{key} of {where} is another {here}"
    weights, other_weights = _tensors(first), _tensors(second)
    for name in dict.fromkeys([*weights, *other_weights]):
        here, there = (_described(tensors.get(name)) for tensors in (other_weights, weights))
        if here != there:
            yield f"{name} is {here}, not {there}"


def _kind(part: nn.Module) -> tuple:
    """A parametrised layer has a class that is made for it alone."""
    return type(part).__bases__ if parametrize.is_parametrized(part) else (type(part),)


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    kind = f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
    frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
    return kind + ", frozen" if frozen else kind


def _shown(value: object) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


Names = dict[int, str]


def _names(model: nn.Module, parts: Mapping[str, nn.Module]) -> Names:
    """Parts, weights and buffers by identity, to compare what refers to them by place and not by value."""
    return {id(thing): name for name, thing in [*parts.items(), *_tensors(model).items()]}


def _same(one: object, two: object, known: tuple[Names, Names], seen: set[tuple[int, int]]) -> bool:
    """Whether two values of attributes mean the same to a network's code; in doubt they do not."""
    names = known[0].get(id(one)), known[1].get(id(two))
    if names != (None, None):
        return names[0] == names[1]
    if one is two or (id(one), id(two)) in seen:  # the latter are being compared already, further up
        return True
    if isinstance(one, numbers.Number) and isinstance(two, numbers.Number):
        return bool(one == two or (one != one and two != two))
    if type(one) is not type(two):
        return False
    seen.add((id(one), id(two)))
    alike = functools.partial(_all_same, known=known, seen=seen)
    if isinstance(one, Tensor):
        return one.dtype == two.dtype and one.device == two.device and torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(one, nn.Module):  # outside the tree: its weights are not the member's
        weights, others = _tensors(one), _tensors(two)
        return next(_differences(one, two), None) is None and all(torch.equal(weights[name], others[name]) for name in weights)
    if isinstance(one, Mapping):
        return list(one) == list(two) and alike(list(one.values()), list(two.values()))
    if isinstance(one, (list, tuple)):
        return alike(one, two)
    if isinstance(one, functools.partial):
        return alike((one.func, one.args, one.keywords), (two.func, two.args, two.keywords))
    if isinstance(one, types.MethodType):
        return alike((one.__func__, one.__self__), (two.__func__, two.__self__))
    if isinstance(one, types.FunctionType):
        return one.__code__ == two.__code__ and alike(_captured(one), _captured(two))
    if isinstance(one, weakref.ref):
        return alike((one(),), (two(),))
    if type(one).__eq__ is not object.__eq__:
        try:
            return bool(one == two)
        except Exception:  # what cannot be compared as a whole, as tables cannot
            return False
    return hasattr(one, "__dict__") and alike((vars(one),), (vars(two),))


def _all_same(ones: Sequence, twos: Sequence, known: tuple[Names, Names], seen: set[tuple[int, int]]) -> bool:
    return len(ones) == len(twos) and all(_same(one, two, known, seen) for one, two in zip(ones, twos, strict=True))


def _captured(function: types.FunctionType) -> tuple:
    """What a function computes with besides its arguments and its code."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return function.__defaults__, function.__kwdefaults__, cells
