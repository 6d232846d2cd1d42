"""Classes of unequal size: long-tailed splits, a balancing sampler, class weights, focal loss, logit adjustment. Lesson 11.

A fitted model's probabilities carry the class frequencies of what it was trained on. A balancing sampler, class weights and
the adjusted loss change them while training, `logit_adjustment` afterwards; the classes that gain are the same.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils import valid
from course_utils.techniques import targets


def long_tail(labels: Tensor, largest: int, ratio: float, order: Sequence[int], generator: torch.Generator) -> Tensor:
    """Choose samples so that class sizes fall geometrically: ``round(largest * ratio ** (-k / (K - 1)))`` for place ``k``.

    Cui et al., *Class-Balanced Loss Based on Effective Number of Samples*, 2019, section 5.1. Lesson 11.

    Args:
        labels: class indices, integers of any width or booleans ``(N,)``; at least one.
        largest: size of the class at place 0, at least 1.
        ratio: size of the largest class over that of the smallest, finite and at least 1.
        order: all classes, from the most frequent to the rarest; two at least.
        generator: CPU generator that decides which samples, and their shuffled order.

    Returns:
        int64 positions in ``labels``, shuffled, each once.

    Raises:
        ValueError: ``order`` is not each class of ``labels`` once, ``largest`` or ``ratio`` is below 1, a class has too few
            samples, or would get none, or a generator that is not on the CPU.

    >>> labels = torch.tensor([0, 1] * 50)
    >>> labels[long_tail(labels, 40, 10, (1, 0), torch.Generator().manual_seed(0))].bincount().tolist()
    [4, 40]
    """
    labels, generator = _labels(labels), valid.cpu_generator(generator)
    order = valid.whole_numbers(order, "order", 0)
    if len(order) < 2 or sorted(order) != labels.unique().tolist():
        raise ValueError(f"order is {order}; it must name each class once, two at least: {labels.unique().tolist()}.")
    largest = valid.whole_number(largest, "largest", 1)
    ratio = valid.number(ratio, "ratio", "it must be finite and at least 1", 1)
    parts = []
    for place, label in enumerate(order):
        count = round(largest * ratio ** (-place / (len(order) - 1)))
        positions = (labels == label).nonzero().flatten()
        if count == 0:
            raise ValueError(f"class {label} would get no sample: raise largest ({largest}) or lower ratio ({ratio}).")
        if len(positions) < count:
            raise ValueError(
                f"class {label} has {len(positions)} samples, and the split asks for {count}: lower largest ({largest})."
            )
        parts.append(positions[torch.randperm(len(positions), generator=generator)[:count]])
    chosen = torch.cat(parts)
    return chosen[torch.randperm(len(chosen), generator=generator)]


def balanced_weights(labels: Tensor) -> Tensor:
    """1 / (size of its class) for each **sample**, in the order of ``labels``: with them, all classes are drawn alike.

    A list made class by class fits only labels that are sorted by class. Lesson 11.

    Args:
        labels: class indices, integers of any width or booleans ``(N,)``; at least one.

    Returns:
        float64 ``(N,)``; the weights of each class sum to 1.

    Raises:
        ValueError: labels that are not class indices.

    >>> balanced_weights(torch.tensor([0, 1, 0, 0, 0])).tolist()
    [0.25, 1.0, 0.25, 0.25, 0.25]
    """
    _, inverse, counts = _labels(labels).unique(return_inverse=True, return_counts=True)
    return 1 / counts.double()[inverse]


class WeightedSampler:
    """Positions drawn with replacement, in proportion to weights; a fresh draw for each pass. Lesson 11.

    Goes into ``TensorLoader(sampler=...)`` or a torch ``DataLoader``. Equals ``torch.utils.data.WeightedRandomSampler`` in
    distribution; that one stops at 2**24 samples.

    Args:
        weights: of each sample, ``(N,)``: finite, at least 0, not all 0. Only their ratios count. A weight of 0 is never drawn.
        num_samples: draws per pass, at least 1; mostly ``N``, so that an epoch has as many steps as without it.
        generator: CPU generator that draws; torch's global one when ``None``. `train.fit` keeps its state in checkpoints.

    Raises:
        ValueError: weights or ``num_samples`` other than that.

    >>> list(WeightedSampler(torch.tensor([0.0, 2.0]), 3))
    [1, 1, 1]
    """

    def __init__(self, weights: Tensor, num_samples: int, generator: torch.Generator | None = None) -> None:
        self.weights = valid.ratios(weights, None, "one number per sample").cpu()
        self.num_samples = valid.whole_number(num_samples, "num_samples", 1)
        self.generator = valid.cpu_generator(generator)

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        upper = self.weights.cumsum(0)
        points = torch.rand(self.num_samples, generator=self.generator, dtype=torch.float64) * upper[-1]
        return iter(torch.searchsorted(upper, points, right=True).tolist())


def inverse_frequency(counts: Tensor) -> Tensor:
    """Class weights 1 / n, scaled to mean 1. Lesson 11.

    Args:
        counts: samples of each class, ``(K,)``, at least 1 each.

    Returns:
        float32 ``(K,)``, for ``F.cross_entropy(weight=...)``.

    Raises:
        ValueError: a class has no sample.

    >>> inverse_frequency(torch.tensor([3, 1])).tolist()
    [0.5, 1.5]
    """
    return _mean_one(1 / _counts(counts))


def effective_number(counts: Tensor, beta: float) -> Tensor:
    """Class weights (1 - β) / (1 - βⁿ), scaled to mean 1. Cui et al., 2019, equation 11. Lesson 11.

    A further sample of a class counts less the more there are: ``(1 - βⁿ) / (1 - β)`` is the effective number of ``n`` samples.

    Args:
        counts: samples of each class, ``(K,)``, at least 1 each.
        beta: in 0..1, 1 excluded. 0 weighs all classes alike; towards 1 the weights become those of `inverse_frequency`.

    Returns:
        float32 ``(K,)``.

    Raises:
        ValueError: ``beta`` outside its range, or a class has no sample.
    """
    beta = valid.number(beta, "beta", "it must be at least 0 and below 1, such as 0.999", 0, valid.BELOW_1)
    log_beta = math.log(beta) if beta else -math.inf
    return _mean_one(-1 / torch.expm1(_counts(counts) * log_beta))  # 1 - beta ** n, of which for beta near 1 nothing is left


def focal_loss(logits: Tensor, y: Tensor, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy in which a sample counts ``(1 - p) ** gamma``, with ``p`` the probability given to its true class.

    Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 3, for ``K`` classes. Lesson 11.

    Args:
        logits: ``(B, K)``.
        y: class indices, integers of any width or booleans ``(B,)``, or probabilities ``(B, K)``; with those, each class's term
            is weighed by its own ``p``.
        gamma: finite, at least 0. At 0 this is ``F.cross_entropy(logits, y, weight)``; above it, samples that are right count
            less.
        weight: of each class, ``(K,)``, as in ``F.cross_entropy``: numbers of any kind, finite and at least 0. With class
            indices no gradient goes to them, since torch has none.

    Returns:
        Scalar, float32 or wider. As in torch, the mean over class indices divides by the sum of the samples' weights.

    Raises:
        ValueError: ``gamma`` is below 0; logits or weights of another shape; unequal numbers of logits and targets; targets as
            in `targets.as_probabilities`. Values of weights are checked on a CPU only.
    """
    gamma = valid.number(gamma, "gamma", "it must be finite and at least 0", 0)
    logits = _wide(logits)
    y = targets.checked(y, logits.shape[1])
    valid.as_many(logits, y, "logits")
    if weight is not None:
        weight = _class_weights(weight, logits)
    log_p = logits.log_softmax(1)
    # Without the floor, the slope of 0 ** gamma is infinite for gamma below 1 and makes the gradient NaN.
    doubt = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
    terms = doubt ** min(gamma, 1e18) * log_p  # beyond, the slope overflows; doubt itself has but 24 bits
    if not y.is_floating_point():
        return F.nll_loss(terms, y, None if weight is None else weight.detach())  # torch has no gradient of those
    return -((terms if weight is None else terms * weight) * y).sum(1).mean()


def logit_adjustment(logits: Tensor, counts: Tensor, tau: float = 1.0) -> Tensor:
    """``logits - tau * log(n / N)``: take the class frequencies of the training set out of a trained model's logits.

    At ``tau`` 1 and for the true log-probabilities, the largest is the class with the highest chance if all classes were
    equally frequent, which is best for the mean recall. It equals thresholds on probabilities in the ratio of the class
    frequencies. Menon et al., *Long-tail learning via logit adjustment*, 2021, section 4.1. Lesson 11.

    Args:
        logits: ``(B, K)``.
        counts: samples of each class in the training set, ``(K,)``, at least 1 each.
        tau: strength, finite; 0 changes nothing, and -1 puts the frequencies into the logits of a model that knows none.

    Returns:
        ``(B, K)``, of the logits' type; float32 for integers.

    Raises:
        ValueError: a class has no sample, there are not ``K`` counts, ``tau`` is not finite, or ``tau * log(n / N)`` is beyond
            the range of the logits' type.
    """
    valid.tensors(logits=logits)
    logits = logits if logits.is_floating_point() else logits.float()
    return logits + _adjustment(counts, -_strength(tau))(logits)


def adjusted_loss(counts: Tensor, tau: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy of ``logits + tau * log(n / N)``: the logits themselves then learn what is left, without frequencies.

    Menon et al., 2021, section 4.2. Lesson 11.

    Args:
        counts: samples of each class in the training set, ``(K,)``, at least 1 each.
        tau: strength, finite; at 0 this is plain cross-entropy.

    Returns:
        Loss of logits ``(B, K)`` and class indices (integers of any width or booleans ``(B,)``) or probabilities ``(B, K)``.
        At test time nothing is added.

    Raises:
        ValueError: a class has no sample, or ``tau`` is not finite; when called, there are not ``K`` counts, unequal numbers of
            logits and targets, a ``tau`` as in `logit_adjustment`, or targets as in `targets.as_probabilities`.
    """
    adjustment = _adjustment(counts, _strength(tau))

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        valid.tensors(logits=logits)
        logits = logits if logits.is_floating_point() else logits.float()
        adjusted = logits + adjustment(logits)
        y = targets.checked(y, logits.shape[1])
        valid.as_many(logits, y, "logits")
        return F.cross_entropy(adjusted, y)

    return loss


def _mean_one(weights: Tensor) -> Tensor:
    return (weights / weights.mean()).float()


def _adjustment(counts: Tensor, tau: float) -> Callable[[Tensor], Tensor]:
    """``tau * log(n / N)`` for given logits: checked and brought to their device once, since at each step a GPU would stall."""
    counts = _counts(counts)
    log_shares = (counts / counts.sum()).log()
    brought: dict = {}

    def beside(logits: Tensor) -> Tensor:
        if logits.shape[1:] != log_shares.shape:
            raise ValueError(
                f"logits are {tuple(logits.shape)} and there are {len(log_shares)} counts; give one count per class."
            )
        key = (logits.device, logits.dtype)
        if key not in brought:
            with torch.inference_mode(False):
                added = tau * log_shares.to(*key)
            if not bool(added.isfinite().all()):
                raise ValueError(
                    f"tau is {tau:g}, and tau * log(n / N) is beyond the range of {logits.dtype}: use a smaller tau"
                    f"{'' if logits.dtype in (torch.float32, torch.float64) else ', or logits.float()'}."
                )
            brought[key] = added
        return brought[key]

    return beside


def _strength(tau: float) -> float:
    return valid.number(tau, "tau", "a strength is finite")


def _wide(logits: Tensor) -> Tensor:
    """Logits ``(B, K)`` as float32 or wider: powers of probabilities need the bits."""
    valid.tensors(logits=logits)
    if logits.ndim != 2:
        raise ValueError(f"logits are of shape {tuple(logits.shape)}; use (B, K).")
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _class_weights(weight: Tensor, logits: Tensor) -> Tensor:
    given = valid.savable(weight) if isinstance(weight, Tensor) else valid.floats(weight, "weight")
    valid.tensors(weight=given)
    weight = given.to(logits)
    if weight.shape != logits.shape[1:]:
        raise ValueError(f"weight is of shape {tuple(weight.shape)}; give one per class, ({logits.shape[1]},).")
    if weight.device.type == "cpu":  # reading values back would stall a GPU
        low, high = weight.aminmax()
        if not (low.item() >= 0 and high.item() < math.inf):
            raise ValueError(f"weight is {weight.tolist()}; the weight of a class is finite and at least 0.")
    return weight


def _counts(counts: Tensor) -> Tensor:
    counts = valid.floats(counts, "counts")
    if counts.ndim != 1 or len(counts) == 0 or not bool(counts.isfinite().all()) or not bool((counts >= 1).all()):
        raise ValueError(
            f"counts are {counts.tolist()}; give the number of training samples of each class, (K,), at least 1 each. "
            "A class without samples cannot be weighted."
        )
    return counts


def _labels(labels: Tensor) -> Tensor:
    labels = valid.class_indices(labels)
    if len(labels) == 0:
        raise ValueError("there are no labels: give the class indices of at least one sample.")
    return labels
