"""Do networks compute the same function of their weights? `ensembles.fit_together` runs all with the code of the first."""

import functools
import numbers
import re
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from course_utils import modes

_STRUCTURE = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"}


def need_alike(members: Sequence[nn.Module]) -> None:
    """Raise unless all networks are built alike, layer by layer, with weights of their own.

    Compared are the classes of all parts; names, shapes, types and devices of weights and buffers; what is trained and what is
    frozen; and every attribute that is none of these, such as a dropout rate, a stride or a function. Numbers and words count,
    also those that only name a network: nobody can see from outside whether its code reads them while it is trained.

    Args:
        members: networks, one at least.

    Raises:
        ValueError: two members share the memory of a weight or buffer; a member has hooks on its gradients, or a weight that a
            hook computes from others, as pruning does; or one differs from the first. The message says in what.

    >>> need_alike([nn.Linear(2, 2), nn.Linear(2, 2)])
    """
    _need_memory_of_their_own(members)
    for number, member in enumerate(members):
        for fault in _hidden_steps(member):
            raise ValueError(f"member {number}: {fault}. Train such networks one after another with train.fit.")
    for number, member in enumerate(members[1:], 1):
        for difference in _differences(members[0], member):
            raise ValueError(
                f"member {number} is not built as member 0: {difference}. Members that are trained together run the code of "
                "the first; train these one after another with train.fit."
            )


def _need_memory_of_their_own(members: Sequence[nn.Module]) -> None:
    """Weights may be different objects and still lie in the same memory, as ``nn.Parameter(init)`` of one ``init`` do."""
    spans = sorted(
        (str(tensor.device), *_span(tensor), number, place, name)
        for number, member in enumerate(members)
        for place, (name, tensor) in enumerate(_tensors(member).items())
        if tensor.layout == torch.strided and not is_lazy(tensor) and tensor.numel() and tensor.data_ptr()
    )
    shared = []
    device, end, owner = "", 0, 0  # all spans so far that reach beyond the next start belong to one owner
    for here, start, stop, number, place, name in spans:
        if here == device and start < end and number != owner:
            shared.append((max(owner, number), min(owner, number), place, name))
        if here != device or stop > end:
            device, end, owner = here, stop, number
    if shared:
        second, first, _, name = min(shared)
        raise ValueError(
            f"members {first} and {second} share {name}: give each a network of its own, such as copy.deepcopy makes, or each "
            "weight a copy of its own with .clone()."
        )


def _span(tensor: Tensor) -> tuple[int, int]:
    """First and last place in memory, in bytes; the last excluded."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _hidden_steps(model: nn.Module) -> Iterator[str]:
    """What happens to weights or gradients beside the code of layers and loss, and would not happen to stacked weights."""
    for name, tensor in _tensors(model).items():
        if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
            yield f"{name} has a hook on its gradient, which would not be called"
    for name, part in model.named_modules():
        where = name or "the network"
        if part._backward_hooks or part._backward_pre_hooks:
            yield f"{where} has a backward hook, which would not be called"
        for label, value in vars(part).items():
            if isinstance(value, Tensor) and any(f"{label}{end}" in part._parameters for end in ("_orig", "_v")):
                yield (
                    f"{label} of {where} is computed by a hook, as torch.nn.utils.prune, weight_norm and spectral_norm do it "
                    "(prune.remove ends pruning; weight_norm of torch.nn.utils.parametrizations can be trained together)"
                )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _differences(
    first: nn.Module, second: nn.Module, known: "Known | None" = None, seen: "Seen | None" = None
) -> Iterator[str]:
    """What makes the second network another function than the first, a clause each."""
    parts, others = (dict(model.named_modules(remove_duplicate=False)) for model in (first, second))
    known, seen = known or ({}, {}), {} if seen is None else seen
    known = known[0] | _names(first, parts, len(known[0])), known[1] | _names(second, others, len(known[1]))
    if list(parts) != list(others):
        yield f"its parts are {_shown(list(others)[1:])}, not {_shown(list(parts)[1:])}"
        return
    frozen, other_frozen = set(modes.frozen_parts(first)), set(modes.frozen_parts(second))
    for name, part in parts.items():
        other, where = others[name], name or "the network"
        if not _all_same(_kind(part), _kind(other), known, seen):
            yield f"{where} is {type(other).__name__}, not {type(part).__name__}"
            return
        if (part in frozen) != (other in other_frozen):
            yield f"{where} is frozen in evaluation mode in one of them only"
        for key in {**vars(part), **vars(other)}.keys() - _STRUCTURE:
            one, two = vars(part).get(key), vars(other).get(key)
            if "_hooks" in key:  # by running numbers that mean nothing
                one, two = list((one or {}).values()), list((two or {}).values())
            if not _same(one, two, known, seen):
                there, here = _shown(one), _shown(two)
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


Known = tuple[dict[int, str], dict[int, str]]
Seen = dict[tuple[int, int], tuple[object, object]]  # the objects too: an id means nothing once its object is gone


def _names(model: nn.Module, parts: Mapping[str, nn.Module], depth: int) -> dict[int, str]:
    """Parts, weights and buffers by identity, to compare what refers to them by place and not by value."""
    return {id(thing): f"{depth} {name}" for name, thing in [*parts.items(), *_tensors(model).items()]}


def _same(one: Any, two: Any, known: Known, seen: Seen) -> bool:
    """Whether two values of attributes mean the same to a network's code; in doubt they do not."""
    names = known[0].get(id(one)), known[1].get(id(two))
    if names != (None, None):
        return names[0] == names[1]
    if one is two or (id(one), id(two)) in seen:  # the latter are being compared already, further up
        return True
    if isinstance(one, numbers.Number) and isinstance(two, numbers.Number) and not hasattr(one, "__dict__"):
        return isinstance(one, bool) == isinstance(two, bool) and bool(one == two or (one != one and two != two))
    seen[id(one), id(two)] = one, two
    alike = functools.partial(_all_same, known=known, seen=seen)
    if isinstance(one, type) and isinstance(two, type):
        return _named(one) == _named(two) and alike((one.__bases__, _written(one)), (two.__bases__, _written(two)))
    if type(one) is not type(two) and not _same(type(one), type(two), known, seen):
        return False
    if isinstance(one, nn.Module):  # outside the tree: its weights are not the member's
        if next(_differences(one, two, known, seen), None) is not None:
            return False
        weights, others = _tensors(one), _tensors(two)
        return all(_equal(weights[name], others[name]) for name in weights)
    if isinstance(one, (Tensor, np.ndarray)):
        return _equal(one, two)
    if isinstance(one, types.FunctionType):
        return _same_code(one.__code__, two.__code__) and alike(_captured(one), _captured(two))
    if not alike((getattr(one, "__dict__", None),), (getattr(two, "__dict__", None),)):
        return False
    if isinstance(one, Mapping):
        return alike([*one, *one.values()], [*two, *two.values()])
    if isinstance(one, (list, tuple)):
        return alike(one, two)
    if isinstance(one, (str, bytes, set, frozenset)):
        return one == two
    for kind, made_of in _MADE_OF.items():
        if isinstance(one, kind):
            return alike([getattr(one, name) for name in made_of], [getattr(two, name) for name in made_of])
    if isinstance(one, weakref.ref):
        return alike((one(),), (two(),))
    try:
        return alike(_kept(one), _kept(two))
    except Exception:  # what cannot be copied has nothing else to be compared by
        return False


_MADE_OF: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    types.MemberDescriptorType: ("__name__",),  # of a class, as its __slots__ name them
    types.GetSetDescriptorType: ("__name__",),
}


def _all_same(ones: Sequence, twos: Sequence, known: Known, seen: Seen) -> bool:
    return len(ones) == len(twos) and all(_same(one, two, known, seen) for one, two in zip(ones, twos, strict=True))


def _equal(one: Tensor | np.ndarray, two: Tensor | np.ndarray) -> bool:
    """Of one type, device and shape, and with equal values; NaN equals NaN."""
    if one.dtype != two.dtype or one.shape != two.shape or getattr(one, "device", None) != getattr(two, "device", None):
        return False
    try:
        same: Any = (one == two) | ((one != one) & (two != two))
        return bool(same.all())
    except (RuntimeError, TypeError, ValueError):  # sparse tensors, arrays of objects
        return False


def _same_code(one: types.CodeType, two: types.CodeType) -> bool:
    """Whether two codes do the same; the lines where they stand do not count."""
    fields = (
        *("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_exceptiontable"),
        *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount"),
    )
    if any(getattr(one, field) != getattr(two, field) for field in fields):
        return False
    return len(one.co_consts) == len(two.co_consts) and all(map(_same_constant, one.co_consts, two.co_consts))


def _same_constant(one: object, two: object) -> bool:
    if isinstance(one, types.CodeType) and isinstance(two, types.CodeType):
        return _same_code(one, two)
    return type(one) is type(two) and repr(one) == repr(two)  # 1 is not True here, and 0.0 not -0.0


def _captured(function: types.FunctionType) -> tuple:
    """What a function computes with besides its arguments and its code."""
    cells = [_content(cell) for cell in function.__closure__ or ()]
    names = _names_in(function.__code__)
    read = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return function.__defaults__, function.__kwdefaults__, cells, read, vars(function)


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that never got a value
        return types.CellType


def _names_in(code: types.CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for part in inner for name in _names_in(part))]


_NO_CODE = {"__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__", "_abc_impl"}


def _named(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _written(cls: type) -> dict[str, object]:
    """What the body of a class says: a function that holds a class makes a new one, with the same body, at each call."""
    return {key: value for key, value in vars(cls).items() if key not in _NO_CODE and "annot" not in key}


def _kept(value: object) -> tuple:
    """What a copy of an object would be made from."""
    made = value.__reduce_ex__(4)
    return (made,) if isinstance(made, str) else tuple(list(part) if isinstance(part, Iterator) else part for part in made)
