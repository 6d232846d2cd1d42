"""Which parts of a network train and which stay frozen, by one rule for `train.fit` and `ensembles.fit_together`."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

# What was frozen when a network was last trained: since then all of it is in evaluation mode.
_FROZEN: weakref.WeakKeyDictionary[nn.Module, list[nn.Module]] = weakref.WeakKeyDictionary()


def frozen_parts(model: nn.Module) -> list[nn.Module]:
    """Parts that stay in evaluation mode while a network is trained.

    Of a network in training mode: those parts in evaluation mode none of whose parameters requires a gradient, and the batch
    normalisations in evaluation mode all of whose neighbours with parameters are in training mode; with all that is in them.
    Of a network that training left in evaluation mode: what was frozen then.
    """
    if not model.training:
        return _FROZEN.get(model, [])
    pairs = [(parent, part) for parent in model.modules() for part in parent.children()]
    return [module for parent, part in pairs if _is_frozen(parent, part) for module in part.modules()]


def _is_frozen(parent: nn.Module, part: nn.Module) -> bool:
    """Evaluation mode alone does not mean frozen: a trained body under a new head was left in it when its training ended."""
    if part.training:
        return False
    weights = list(part.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        return True
    norms = nn.modules.batchnorm._BatchNorm
    neighbours = [each for each in parent.children() if not isinstance(each, norms) and any(True for _ in each.parameters())]
    return isinstance(part, norms) and bool(neighbours) and all(each.training for each in neighbours)


def set_training(model: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Training mode, but for what is frozen."""
    model.train()
    for part in frozen:
        part.training = False


def end_training(model: nn.Module, frozen: list[nn.Module]) -> None:
    """Evaluation mode; `frozen_parts` remembers what was frozen until the caller asks for ``model.train()``."""
    model.eval()
    _FROZEN[model] = frozen


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block. Modes are put back one by one: a part that was frozen in evaluation mode stays so."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
