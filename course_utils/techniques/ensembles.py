"""Ensembles: combiners of many members' predictions, the bootstrap, members trained at once, diversity. Built in lesson 10.

Predictions of ``M`` members for ``N`` samples and ``K`` classes are stacked along the first dimension: class indices
``(M, N)``, logits ``(M, N, K)``.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from course_utils import runtime

Loss = Callable[[Tensor, Tensor], Tensor]


def vote(predictions: Tensor, num_classes: int, weights: Tensor | None = None) -> Tensor:
    """The class that most members name, each with its weight: bagging's plain vote, boosting's weighted one (lesson 10).

    Args:
        predictions: class indices, integer ``(M, N)``.
        num_classes: number of classes ``K``.
        weights: of the members, ``(M,)``, at least 0 and not all 0; one each when ``None``.

    Returns:
        Class indices, int64 ``(N,)``; of classes with equal votes, the one with the lowest index.

    Raises:
        ValueError: predictions that are no class indices ``(M, N)``, or weights that are not as above.

    >>> members = torch.tensor([[0, 2], [1, 2], [1, 0]])
    >>> vote(members, 3).tolist(), vote(members, 3, torch.tensor([3.0, 1.0, 1.0])).tolist()
    ([1, 2], [0, 2])
    """
    _check_classes(predictions)
    if predictions.numel() and not 0 <= int(predictions.min()) <= int(predictions.max()) < num_classes:
        raise ValueError(
            f"predictions go from {predictions.min()} to {predictions.max()}; {num_classes} classes are numbered 0 to "
            f"{num_classes - 1}."
        )
    if weights is None:
        weights = torch.ones(len(predictions), device=predictions.device)
    if weights.shape != predictions.shape[:1] or not bool((weights >= 0).all() and (weights > 0).any()):
        raise ValueError(
            f"weights are {weights.tolist()}; give each of the {len(predictions)} members one, at least 0, not all 0."
        )
    shares = F.one_hot(predictions.long(), num_classes) * weights.double()[:, None, None]
    return shares.sum(0).argmax(1)


def average(logits: Tensor) -> Tensor:
    """Mean of the members' probabilities, as deep ensembles combine (lesson 10).

    Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*, 2017, section 2.4.

    Args:
        logits: of the members, floating ``(M, N, K)``.

    Returns:
        Probabilities ``(N, K)``. Their negative log-likelihood and Brier score are never above the mean of the members'.

    Raises:
        ValueError: another shape, or no members.

    >>> print(average(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()))
    tensor([[0.7000, 0.3000]])
    """
    if logits.ndim != 3 or len(logits) == 0 or not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype} of shape {tuple(logits.shape)}; stack the members' as floats (M, N, K).")
    return logits.softmax(2).mean(0)


def disagreement(predictions: Tensor) -> Tensor:
    """How often two members name different classes: the mean over all pairs of members and all samples (lesson 10).

    Args:
        predictions: class indices, integer ``(M, N)``.

    Returns:
        float64 scalar in 0..1; 0 where all members agree.

    Raises:
        ValueError: fewer than two members, no samples, or no class indices.

    >>> disagreement(torch.tensor([[0, 1], [0, 1], [0, 2]])).item()
    0.3333333333333333
    """
    _check_classes(predictions)
    members, samples = predictions.shape
    if members < 2 or samples == 0:
        raise ValueError(f"{members} members and {samples} samples: it takes two members to disagree, and a sample.")
    first, second = torch.combinations(torch.arange(members)).unbind(1)
    return (predictions[first] != predictions[second]).double().mean()


def bootstrap(n: int, generator: torch.Generator) -> Tensor:
    """``n`` of ``n`` positions, drawn with replacement: about 63 % of them occur, as ``1 - (1 - 1/n)^n`` nears ``1 - 1/e``.

    Breiman, *Bagging Predictors*, 1996. Lesson 10.

    Args:
        n: number of samples, at least 1.
        generator: CPU generator; one seed is one bootstrap sample.

    Returns:
        Positions, int64 ``(n,)``.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; there must be at least one sample to draw.")
    return torch.randint(n, (n,), generator=generator)


def fit_together(
    members: Sequence[nn.Module],
    loaders: Sequence[Iterable[tuple[Tensor, Tensor]]],
    *,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    loss: Loss = F.cross_entropy,
    epochs: int,
    progress: bool = True,
) -> Tensor:
    """Train networks of one architecture side by side, each on its own batches, as if each were trained alone (lesson 10).

    Their weights are stacked, and `torch.func.vmap` runs all members with one operation where one after the other would take
    ``M``: about twice as fast where operations are small, as for small MLPs; CNNs gain or lose: measure.

    Args:
        members: at least one; of one architecture, on one device. Trained in place, in their own precision (never mixed), and
            left in evaluation mode.
        loaders: one for each member, that gives it the batches it would get alone; all of the same sizes.
        optimizer: makes the optimizer of the stacked parameters, such as ``lambda p: torch.optim.Adam(p, lr=1e-3)``. It must
            treat every weight by itself, as SGD, Adam and their kin do; what takes norms over whole tensors mixes members.
        loss: ``(logits, y) -> scalar`` mean over one member's batch.
        epochs: passes over the loaders, at least 1.
        progress: show a bar.

    Returns:
        Mean training loss of each epoch and member, ``(epochs, M)``, on the CPU. Dropout draws other masks than alone.

    Raises:
        ValueError: no members, not one loader for each, no epochs, or loaders that are empty, of different lengths, or
            give batches of different sizes in one step.
        ArithmeticError: a member's loss became NaN or infinite; all members keep the weights they came with.
    """
    if not members or len(members) != len(loaders):
        raise ValueError(
            f"got {len(members)} members and {len(loaders)} loaders; give at least one member, and each its loader."
        )
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1.")
    if len(lengths := {len(loader) for loader in loaders if hasattr(loader, "__len__")}) > 1:
        raise ValueError(f"the loaders have {sorted(lengths)} batches; members that are trained together need as many each.")
    for member in members:
        member.train()
    params, buffers = stack_module_state(list(members))
    update = optimizer(list(params.values()))

    def member_loss(own_params: dict, own_buffers: dict, x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(members[0], (own_params, own_buffers), (x,)), y)

    losses_of_all = vmap(member_loss, randomness="different")
    history = []
    for _ in runtime.progress(range(epochs), "training together", show=progress):
        total, seen = 0.0, 0
        for batches in zip(*loaders, strict=True):
            xs, ys = zip(*batches, strict=True)
            losses = losses_of_all(params, buffers, _stacked(xs), _stacked(ys))
            update.zero_grad()
            losses.sum().backward()  # the sum, so that each member's gradient is that of its own loss
            update.step()
            total, seen = total + losses.detach() * len(ys[0]), seen + len(ys[0])
        if not seen:
            raise ValueError("the loaders are empty: they give no batch.")
        history.append(total / seen)
        if bad := (~history[-1].isfinite()).nonzero().flatten().tolist():
            raise ArithmeticError(
                f"the loss of members {bad} is not finite in epoch {len(history)}: try a smaller learning rate."
            )
    with torch.no_grad():
        for position, member in enumerate(members):
            own = dict(member.named_parameters()) | dict(member.named_buffers())
            for name, tensor in (params | buffers).items():
                own[name].copy_(tensor[position])
            member.eval()
    return torch.stack(history).cpu()


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    if len({part.shape for part in parts}) > 1:
        raise ValueError(
            f"one step has batches of shapes {sorted({tuple(part.shape) for part in parts})}; "
            "members that are trained together need as many samples each, in batches of one size."
        )
    return torch.stack(parts)


def _check_classes(predictions: Tensor) -> None:
    if predictions.ndim != 2 or len(predictions) == 0 or predictions.is_floating_point() or predictions.dtype == torch.bool:
        raise ValueError(
            f"predictions are {predictions.dtype} of shape {tuple(predictions.shape)}; stack class indices (M, N). "
            "From logits (M, N, K) they come with logits.argmax(2)."
        )
