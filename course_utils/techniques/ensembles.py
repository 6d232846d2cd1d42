"""Ensembles: combiners of many members' predictions, members trained at once, diversity. Built in lesson 10.

Predictions of ``M`` members for ``N`` samples and ``K`` classes are stacked along the first dimension: class indices
``(M, N)``, logits ``(M, N, K)``.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from course_utils import modes, runtime, valid
from course_utils.techniques.alike import need_alike

Loss = Callable[[Tensor, Tensor], Tensor]


def vote(predictions: Tensor, num_classes: int, weights: Tensor | None = None) -> Tensor:
    """The class that most members name, each with its weight: bagging's plain vote, boosting's weighted one (lesson 10).

    Args:
        predictions: class indices, integers of any width or booleans (classes 0 and 1) ``(M, N)``.
        num_classes: number of classes ``K``, at least 1.
        weights: of the members, ``(M,)``, at least 0 and not all 0; one each when ``None``. An infinite one, which AdaBoost
            gives a member without errors, outvotes all finite ones.

    Returns:
        Class indices, int64 ``(N,)``; of classes with equal votes, the one with the lowest index.

    Raises:
        ValueError: predictions that are not class indices ``(M, N)``, or weights that are not as above.

    >>> members = torch.tensor([[0, 2], [1, 2], [1, 0]])
    >>> vote(members, 3).tolist(), vote(members, 3, torch.tensor([3.0, 1.0, 1.0])).tolist()
    ([1, 2], [0, 2])
    """
    num_classes = valid.whole_number(num_classes, "num_classes", 1)
    predictions = _named(predictions, num_classes)
    if weights is None:
        weights = torch.ones(len(predictions))
    rule = f"each of the {len(predictions)} members one"
    weights = valid.ratios(weights, len(predictions), rule, limit=True).to(predictions.device)
    shares = F.one_hot(predictions, num_classes) * weights[:, None, None]
    return shares.sum(0).argmax(1)


def average(logits: Tensor) -> Tensor:
    """Mean of the members' probabilities, as deep ensembles combine (lesson 10).

    Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*, 2017, section 2.4.

    Args:
        logits: of the members, floating ``(M, N, K)``. One of minus infinity rules its class out.

    Returns:
        Probabilities ``(N, K)``. Their negative log-likelihood and Brier score are never above the mean of the members'.

    Raises:
        ValueError: another shape, no members, or logits that give no probabilities: NaN, infinity, or all classes ruled out.

    >>> print(average(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()))
    tensor([[0.7000, 0.3000]])
    """
    valid.tensors(logits=logits)
    if logits.ndim != 3 or len(logits) == 0 or not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype} of shape {tuple(logits.shape)}; stack the members' as floats (M, N, K).")
    p = logits.softmax(2)
    if bad := (~p.isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
        raise ValueError(f"logits of members {bad} are not finite: look for NaN and infinity before you average.")
    return p.mean(0)


def disagreement(predictions: Tensor) -> Tensor:
    """How often two members name different classes: the mean over all pairs of members and all samples (lesson 10).

    Args:
        predictions: class indices, integers of any width or booleans ``(M, N)``.

    Returns:
        float64 scalar in 0..1; 0 where all members agree.

    Raises:
        ValueError: fewer than two members, no samples, or no class indices.

    >>> disagreement(torch.tensor([[0, 1], [0, 1], [0, 2]])).item()
    0.3333333333333333
    """
    predictions = _named(predictions)
    members, samples = predictions.shape
    if members < 2 or samples == 0:
        raise ValueError(f"{members} members and {samples} samples: it takes two members to disagree, and a sample.")
    first, second = torch.combinations(torch.arange(members)).unbind(1)
    return (predictions[first] != predictions[second]).double().mean()


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
        members: at least one; of one architecture (`alike.need_alike`), on one device. Trained in place, in their own precision
            (never mixed), and left in evaluation mode. What is frozen stays so, by the rule of `train.fit`
            (`modes.frozen_parts`).
        loaders: one for each member, that gives it the batches ``(x, y)`` it would get alone; all of the same sizes. Class
            indices may be integers of any width or booleans. Batches come to the members' device, floating point numbers in
            the members' type.
        optimizer: makes the optimizer of the stacked parameters, such as ``lambda p: torch.optim.Adam(p, lr=1e-3)``. It must
            treat every weight by itself, as SGD, Adam and their kin do; what takes norms over whole tensors mixes members.
        loss: ``(logits, y) -> scalar`` mean over one member's batch.
        epochs: passes over the loaders, at least 1.
        progress: show a bar.

    Returns:
        Mean training loss of each epoch and member, ``(epochs, M)``, on the CPU. Dropout draws other masks than alone.

    Raises:
        ValueError: no members, not one loader for each, no epochs; members that are not built alike, that share weights, that
            have hooks on gradients or nothing to train, or that together give other losses than alone; an optimizer that needs
            the loss many times per step; loaders that are empty, of different lengths, or give batches of
            different sizes or types in one step; inputs that the members do not take; labels outside the classes, in any
            batch.
        ArithmeticError: a member's loss became NaN or infinite.

        After an error all members have the weights and modes that they came with. Values of batches are looked at when an
        epoch ends: at each step that would stall a GPU.
    """
    epochs = valid.whole_number(epochs, "epochs", 1)
    members, loaders = list(members), list(loaders)
    if not members or len(members) != len(loaders):
        raise ValueError(
            f"got {len(members)} members and {len(loaders)} loaders; give at least one member, and each its loader."
        )
    if len(lengths := {len(loader) for loader in loaders if isinstance(loader, Sized)}) > 1:
        raise ValueError(f"the loaders have {sorted(lengths)} batches; members that are trained together need as many each.")
    need_alike(members)
    if not any(parameter.requires_grad for parameter in members[0].parameters()):
        raise ValueError("the members have nothing to train: they have no weights, or all of them are frozen.")
    before = [(part, part.training) for member in members for part in member.modules()]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            together = _Together(members, optimizer, loss)
            bar = runtime.progress(range(1, epochs + 1), "training together", show=progress)
            history = [together.epoch(loaders, epoch) for epoch in bar]
    except BaseException:
        for part, training in before:
            part.training = training
        raise
    together.hand_back()
    return torch.stack(history)


class _Together:
    """Members with their weights stacked, run by the code of the first."""

    def __init__(
        self, members: list[nn.Module], optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], loss: Loss
    ) -> None:
        self.members, self.loss = members, loss
        self.frozen = [modes.frozen_parts(member) for member in members]
        self.params = {
            name: _stack([member.get_parameter(name) for member in members]).requires_grad_(parameter.requires_grad)
            for name, parameter in members[0].named_parameters()
        }
        self.buffers = {name: _stack([member.get_buffer(name) for member in members]) for name, _ in members[0].named_buffers()}
        self.first = next(iter([*self.params.values(), *self.buffers.values()]), torch.empty(0))
        self.update = optimizer(list(self.params.values()))
        closure = inspect.signature(self.update.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ValueError(
                f"{type(self.update).__name__} computes the loss many times per step, and treats all weights as one vector: it "
                "cannot train members together. Use SGD, Adam or their kin."
            )
        self.places = _places(members[0])
        self.losses_of_all = vmap(self._member_loss, randomness="different")
        self.classes: int | None = None
        self.input_type: torch.dtype | None = None
        self.narrowed = ""  # what to say of inputs that were brought to a narrower type

    def _member_loss(self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        own = params | buffers
        state = {place: own[name] for place, name in self.places.items()}
        return self.loss(functional_call(self.members[0], state, (x,), tie_weights=False), y)

    def epoch(self, loaders: Sequence[Iterable[tuple[Tensor, Tensor]]], epoch: int) -> Tensor:
        """One pass. What the steps leave behind stays on the device, and is read once, at the end."""
        self._set_modes()
        losses, sizes, sums, ranges = [], [], [], []
        for step, batches in enumerate(zip_longest(*loaders), 1):
            xs, ys = self._batch(batches, step)
            if self.input_type is None:
                self._compare(xs, ys)
            if self.classes is not None and not ys.is_floating_point():
                ranges.append(torch.stack(ys.flatten(1).aminmax(dim=1)))
                ys = ys.clamp(0, self.classes - 1)  # a label beyond would end the process on a GPU
            step_losses = self._losses(xs, ys, self.buffers)
            self.update.zero_grad()
            step_losses.sum().backward()  # the sum, so that each member's gradient is that of its own loss
            self.update.step()
            losses.append(step_losses.detach())
            sizes.append(ys.shape[1])
            sums.append(xs.flatten(1).sum(1, dtype=torch.float32) if xs.is_floating_point() else torch.zeros_like(losses[-1]))
        if not losses:
            raise ValueError("the loaders are empty: they give no batch.")
        if ranges and self.classes is not None:
            self._refuse_labels(torch.stack(ranges).cpu(), self.classes, epoch)
        means = torch.stack(losses).cpu()  # (S, M): of each step and member
        self._refuse_not_finite(means, torch.stack(sums).cpu(), epoch)
        return (means * torch.tensor(sizes)[:, None]).sum(0) / sum(sizes)

    def _set_modes(self) -> None:
        for member, frozen in zip(self.members, self.frozen, strict=True):
            modes.set_training(member, frozen)

    def _batch(self, found: Sequence[tuple[Tensor, Tensor] | None], step: int) -> tuple[Tensor, Tensor]:
        if ended := [number for number, batch in enumerate(found) if batch is None]:
            raise ValueError(f"the loaders of members {ended} end before step {step}; all need as many batches.")
        batches = [batch for batch in found if batch is not None]
        for number, (x, y) in enumerate(batches):
            valid.tensors(**{f"x of member {number}": x, f"y of member {number}": y})
        xs = _stacked([x for x, _ in batches]).to(self.first.device)
        ys = _stacked([y if y.is_floating_point() else y.long() for _, y in batches]).to(self.first.device)
        if self.first.is_floating_point():
            if xs.is_floating_point() and torch.finfo(xs.dtype).max > torch.finfo(self.first.dtype).max:
                self.narrowed = f", or numbers beyond {torch.finfo(self.first.dtype).max:g}, the members' largest: scale those"
            xs, ys = (values.to(self.first.dtype) if values.is_floating_point() else values for values in (xs, ys))
        if self.input_type not in (None, xs.dtype):
            raise ValueError(f"inputs are {xs.dtype} in step {step}, and were {self.input_type} before: use one type.")
        return xs, ys

    def _losses(self, xs: Tensor, ys: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        try:
            losses = self.losses_of_all(self.params, buffers, xs, ys)
        except ValueError as error:
            if xs.shape[1] > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "a batch has one sample, and batch normalisation needs two to see a spread: use loaders with drop_last=True, "
                "or another batch size."
            ) from error
        except RuntimeError as error:
            if not re.search(r"vmap|[Bb]atching rule", str(error)):
                raise
            raise ValueError(f"torch.func.vmap cannot run these members together: use train.fit for each. ({error})") from error
        if losses.ndim != 1:
            raise ValueError(f"the loss of a member is of shape {tuple(losses.shape[1:])}; it must be one number, a mean.")
        return losses

    def _compare(self, xs: Tensor, ys: Tensor) -> None:
        """On the first batch: do the members take it, and do they give together what each gives alone?"""
        self.input_type = xs.dtype
        for member in self.members:
            member.eval()
        with torch.no_grad(), torch.random.fork_rng([xs.device] if xs.is_cuda else []):  # no draw of training is used up
            output = self._output(0, xs[0])
            self._check_targets(output, ys[0])
            if self.classes is not None:
                ys = ys.clamp(0, self.classes - 1)
            buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
            together = self._losses(xs.clone(), ys, buffers)
            alone = self._losses_alone(xs, ys)
            bound = 30 * torch.finfo(alone.dtype).eps ** 0.5 * alone.abs().nan_to_num(0, 0).max()
            apart = ~torch.isclose(together, alone, rtol=0, atol=float(bound), equal_nan=True)
            if bool(apart.any()) and torch.equal(alone, self._losses_alone(xs, ys)):  # else they draw, and never agree
                raise ValueError(
                    f"members {apart.nonzero().flatten().tolist()} give another loss than with the code of member 0: they do "
                    "not compute alike. Train these one after another with train.fit."
                )
        self._set_modes()

    def _losses_alone(self, xs: Tensor, ys: Tensor) -> Tensor:
        outputs = [self._output(number, x) for number, x in enumerate(xs)]
        return torch.stack([self.loss(output, y) for output, y in zip(outputs, ys, strict=True)])

    def _output(self, number: int, x: Tensor) -> Tensor:
        try:
            return self.members[number](x.clone())
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            cure = " Make floats of integers first: images with augment.normalize, others with .float()."
            cure = "" if x.is_floating_point() else cure
            raise ValueError(
                f"member {number} does not take inputs that are {x.dtype} of shape {tuple(x.shape)}.{cure} ({error})"
            ) from error

    def _check_targets(self, output: Tensor, y: Tensor) -> None:
        """Refuse numbers that would be broadcast, and note the number of classes where ``y`` are their indices."""
        if not isinstance(output, Tensor):
            return
        if y.is_floating_point() and y.shape != output.shape:
            raise ValueError(
                f"members give {tuple(output.shape)} and the targets are {tuple(y.shape)}; numbers and probabilities need the "
                "same shape on both sides, or the loss broadcasts them against each other in silence."
            )
        per_class = output.ndim > 1 and output.shape[1] > 1 and output.shape[:1] + output.shape[2:] == y.shape
        if not y.is_floating_point() and per_class:
            self.classes = output.shape[1]

    def _refuse_labels(self, ranges: Tensor, classes: int, epoch: int) -> None:
        """``ranges``: lowest and highest label of each step and member, ``(S, 2, M)``."""
        bad = (ranges[:, 0] < 0) | (ranges[:, 1] >= classes)
        for step, member in bad.nonzero()[:1].tolist():
            low, high = ranges[step, :, member].tolist()
            raise ValueError(
                f"labels of member {member} go from {low} to {high} in step {step + 1} of epoch {epoch}; {classes} "
                f"classes are numbered 0 to {classes - 1}."
            )

    def _refuse_not_finite(self, losses: Tensor, sums: Tensor, epoch: int) -> None:
        """Losses and sums of inputs of each step and member, ``(S, M)``."""
        bad = ~losses.isfinite()
        if not bool(bad.any()):
            return
        members = bad.any(0).nonzero().flatten().tolist()
        step = int(bad.any(1).nonzero()[0])
        if bool((bad & ~sums.isfinite())[step].any()):
            cure = f"the inputs there hold NaN or infinity, fill or drop them{self.narrowed}"
        else:
            cure = "try a smaller learning rate, and look for NaN and infinity in the targets"
        raise ArithmeticError(
            f"the loss of members {members} is not finite in epoch {epoch}, first in step {step + 1} (member "
            f"{int(bad[step].nonzero()[0])}): {cure}."
        )

    def hand_back(self) -> None:
        """Give the members their trained weights."""
        with torch.inference_mode():  # where also members that were made in it can be written to
            for position, member in enumerate(self.members):
                own = dict(member.named_parameters()) | dict(member.named_buffers())
                for name, tensor in (self.params | self.buffers).items():
                    if 0 in own[name].stride():  # expanded: several of its values are one place in memory
                        own[name].data = tensor[position].detach().clone()
                    else:
                        own[name].copy_(tensor[position])
                modes.end_training(member, self.frozen[position])


def _places(model: nn.Module) -> dict[str, str]:
    """Each place where a weight or buffer stands, and the name of what stands there: tied weights have several places.

    A layer that is used twice counts once. Torch's own way of finding places counts it twice, and then forgets to take its
    stacked weights out of the second.
    """
    names = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    places: dict[str, str] = {}
    for path, part in model.named_modules():
        own = {**part._parameters, **part._buffers}
        places |= {f"{path}.{label}" if path else label: names[id(it)] for label, it in own.items() if it is not None}
    return places


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.detach() for tensor in tensors])


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    if len({part.shape for part in parts}) > 1:
        raise ValueError(
            f"one step has batches of shapes {sorted({tuple(part.shape) for part in parts})}; "
            "members that are trained together need as many samples each, in batches of one size."
        )
    if len(kinds := {part.dtype for part in parts}) > 1 and not all(kind.is_floating_point for kind in kinds):
        raise ValueError(
            f"one step has batches of types {sorted(map(str, kinds))}; members that are trained together need one."
        )
    return torch.stack([part.to(parts[0].device) for part in parts])


def _named(predictions: Tensor, num_classes: int | None = None) -> Tensor:
    """Class indices of all members ``(M, N)``, as int64."""
    hint = "From logits (M, N, K) they come with logits.argmax(2)."
    predictions = valid.class_indices(predictions, num_classes, "predictions", "(M, N)", wait=True, hint=hint)
    if len(predictions) == 0:
        raise ValueError(f"predictions are of shape {tuple(predictions.shape)}; there must be at least one member.")
    return predictions
