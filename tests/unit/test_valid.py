"""What functions take as labels, numbers and generators, asked of all public functions: one that is missing here is noticed."""

import fractions
import inspect
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_utils import (
    audit,
    augment,
    calibration,
    data,
    detection,
    metrics,
    models,
    plots,
    runtime,
    valid,
)
from course_utils.techniques import alike, ensembles, imbalance, mixing, noise, pseudo, smoothing, targets
from tests.unit.kinds import skip_unless_picked

ROOMS = [audit, augment, calibration, data, detection, metrics, models, plots, runtime]
ROOMS += [alike, ensembles, imbalance, mixing, noise, pseudo, smoothing, targets]


def name_of(function):
    return f"{function.__module__.removeprefix('course_utils.')}.{function.__qualname__}"


def public():
    """Functions and classes that are made by calling them, by name; plain records are only filled by this package."""
    found = {}
    for room in ROOMS:
        for label, thing in vars(room).items():
            own = callable(thing) and getattr(thing, "__module__", None) == room.__name__
            filled = (tuple, Exception)
            record = inspect.isclass(thing) and (issubclass(thing, filled) or hasattr(thing, "__dataclass_fields__"))
            if own and not label.startswith("_") and not record:
                found[name_of(thing)] = thing
    return found


PUBLIC = public()


def parameters(function):
    return inspect.signature(function).parameters.values()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- labels ------------------------------------------------------------------------------------------------------------------

N = 12
Y = torch.tensor([0, 1] * (N // 2))  # classes that every kind of integer and a boolean can name
WIDE = torch.arange(N) % 3
KINDS = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.bool]
X = torch.randn(N, 4, generator=generator())
IMAGES = torch.randint(256, (N, 1, 3, 3), generator=generator(), dtype=torch.uint8)
P = torch.randn(N, 3, generator=generator()).softmax(1)
LOGITS = P.log() + F.one_hot(Y, 3) + F.one_hot(WIDE, 3)
SCORES = torch.rand(N, generator=generator())
BOXES = torch.rand(N, 4, generator=generator()).cumsum(1)
MATRIX = torch.tensor([[100, 27], [14, 90]])


def transformed(transform):
    def outcome(y):
        torch.manual_seed(0)
        return transform(X.view(N, 1, 2, 2), y)

    return outcome


def trained_together(y, **options):
    torch.manual_seed(0)
    members = [nn.Linear(4, 3) for _ in range(2)]
    loaders = [data.TensorLoader(X, y, 5) for _ in members]
    options = {"optimizer": lambda weights: torch.optim.SGD(weights, lr=0.1), "epochs": 1, "progress": False} | options
    return ensembles.fit_together(members, loaders, **options)


def split_of(y, start):
    return data.Split(torch.arange(start, start + len(y), dtype=torch.uint8).view(-1, 1, 1, 1), y)


def dataset(y):
    made = data.Dataset("numbers", *(split_of(y, 20 * place) for place in range(3)), classes=("a", "b", "c"))
    return [getattr(made, name).y for name in ("train", "val", "test")]


def carved(y):
    made = data.carve("numbers", split_of(y, 0), split_of(y, 100), classes=("a", "b", "c"), per_class=2)
    return [made.train.y, made.val.y, made.test.y]


def detected(y):
    images = [{"boxes": BOXES, "labels": y, "scores": SCORES}]
    return detection.evaluate_detections(images, [{"boxes": BOXES.flip(0), "labels": y.flip(0)}]).table


# What each function gives for labels, to be compared between kinds of labels.
LABELS = {
    data.Dataset: dataset,
    data.carve: carved,
    data.balanced_split: lambda y: data.balanced_split(y, (1, 2), generator()),
    data.TensorLoader: lambda y: [batch[1].long() for batch in data.TensorLoader(X, y, 5)],
    audit.audit: lambda y: list(audit.audit(train=(IMAGES, y)).table["train"]),
    metrics.confusion_matrix: lambda y: metrics.confusion_matrix(y, y.roll(1), 3),
    metrics.roc_curve: lambda y: metrics.roc_curve(SCORES, y),
    metrics.roc_auc: lambda y: metrics.roc_auc(SCORES, y),
    metrics.pr_curve: lambda y: metrics.pr_curve(SCORES, y),
    metrics.average_precision: lambda y: metrics.average_precision(SCORES, y),
    metrics.mae: lambda y: metrics.mae(y, SCORES),
    metrics.mse: lambda y: metrics.mse(y, SCORES),
    metrics.rmse: lambda y: metrics.rmse(SCORES, y),
    metrics.mape: lambda y: metrics.mape(y, SCORES + 1),
    calibration.reliability: lambda y: calibration.reliability(P, y),
    calibration.ece: lambda y: calibration.ece(P, y),
    calibration.mce: lambda y: calibration.mce(P, y, adaptive=True),
    calibration.brier: lambda y: calibration.brier(P, y),
    calibration.nll: lambda y: calibration.nll(P, y),
    calibration.fit_temperature: lambda y: calibration.fit_temperature(LOGITS, y),
    calibration.risk_coverage: lambda y: calibration.risk_coverage(SCORES, y),
    detection.nms: lambda y: detection.nms(BOXES, SCORES, 0.1, y),
    detection.precision_recall: lambda y: detection.precision_recall(y, SCORES, 20),
    detection.average_precision: lambda y: detection.average_precision(y, SCORES, 20),
    detection.evaluate_detections: detected,
    mixing.mixup: transformed(mixing.mixup(0.4, 3)),
    mixing.cutmix: transformed(mixing.cutmix(1.0, 3)),
    smoothing.label_smoothing: transformed(smoothing.label_smoothing(0.1, 3)),
    noise.disturb_label: transformed(noise.disturb_label(0.5, 3)),
    noise.corrupt_labels: lambda y: noise.corrupt_labels(y, 0.5, 3, generator()),
    imbalance.long_tail: lambda y: imbalance.long_tail(y, 4, 2, y.long().unique().tolist(), generator()),
    imbalance.balanced_weights: imbalance.balanced_weights,
    imbalance.focal_loss: lambda y: imbalance.focal_loss(P.log(), y, 2.0),
    imbalance.adjusted_loss: lambda y: imbalance.adjusted_loss(torch.tensor([5, 3, 1]))(P.log(), y),
    ensembles.vote: lambda y: ensembles.vote(y.view(3, -1), 3, torch.tensor([1.0, 2.0, 4.0])),
    ensembles.disagreement: lambda y: ensembles.disagreement(y.view(3, -1)),
    ensembles.fit_together: trained_together,
    targets.as_probabilities: lambda y: targets.as_probabilities(y, 3),
    targets.checked: lambda y: targets.checked(y, 3),
}
# Labels here are of two classes only: positive and negative, right and wrong, hit and miss.
OF_TWO = {metrics.roc_curve, metrics.roc_auc, metrics.pr_curve, metrics.average_precision, calibration.risk_coverage}
OF_TWO |= {detection.precision_recall, detection.average_precision}
TAKE_ANY_NUMBERS = {metrics.mae, metrics.mse, metrics.rmse, metrics.mape, data.TensorLoader, detection.nms, audit.audit}
TAKE_PROBABILITIES = {mixing.mixup, mixing.cutmix, smoothing.label_smoothing, noise.disturb_label}
TAKE_PROBABILITIES |= {imbalance.focal_loss, imbalance.adjusted_loss, targets.as_probabilities, targets.checked}

LABEL_NAMES = {"labels", "targets", "y", "predictions", "correct", "hits"}
OTHER_TENSORS = {"x", "p", "index", "logits", "probabilities", "scores", "confidence", "matrix", "boxes", "boxes1", "boxes2"}
OTHER_TENSORS |= {"iou", "weights", "weight", "counts", "images", "mean", "std"}
# Makers of functions on batches, and takers of whole data sets: their signatures do not show that they meet labels.
WITHOUT_LABELS = {"augment.chain", "augment.normalize", "augment.random_crop", "augment.random_flip", "noise.disturb_value"}
WITHOUT_LABELS |= {"pseudo.pseudo_label_loss"}


def test_no_function_that_takes_labels_is_missing_from_the_table():
    listed = {name_of(function) for function in LABELS}
    for name, function in PUBLIC.items():
        tensors = {it.name for it in parameters(function) if it.annotation in (Tensor, Tensor | None)}
        assert tensors <= LABEL_NAMES | OTHER_TENSORS, f"{name}: say in this file which of its tensors are labels"
        returned = inspect.signature(function).return_annotation
        makes_transform = returned == augment.BatchTransform or "Callable[[torch.Tensor, torch.Tensor]" in str(returned)
        hidden = makes_transform and name.removeprefix("techniques.") not in WITHOUT_LABELS
        assert name in listed or not (tensors & LABEL_NAMES or hidden), name


def equal(one, two):
    if isinstance(one, Tensor):
        return one.dtype == two.dtype and torch.equal(one.nan_to_num(-1), two.nan_to_num(-1))
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(equal(*pair) for pair in zip(one, two, strict=True))
    return one == two


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("function", LABELS, ids=name_of)
def test_labels_of_any_integer_width_and_booleans_count_as_int64(function, kind):
    skip_unless_picked(kind)
    outcome = LABELS[function]
    assert equal(outcome(Y.to(kind)), outcome(Y))
    if kind is not torch.bool and function not in OF_TWO:
        assert equal(outcome(WIDE.to(kind)), outcome(WIDE))


@pytest.mark.parametrize("function", [it for it in LABELS if it not in TAKE_ANY_NUMBERS | OF_TWO], ids=name_of)
def test_floating_labels_are_refused_in_words(function):
    with pytest.raises(ValueError, match=r"torch.float32|same shape on both sides"):
        LABELS[function](Y.float())


CHECKS_CLASSES = [it for it in LABELS if it not in TAKE_ANY_NUMBERS | OF_TWO]
WITHOUT_CLASSES = {data.balanced_split, imbalance.long_tail, imbalance.balanced_weights, ensembles.disagreement}
WITHOUT_CLASSES |= {detection.evaluate_detections}  # classes there are those that occur


@pytest.mark.parametrize("bad", [-100, -1, 3, 127])
@pytest.mark.parametrize("place", [0, N // 2, N - 1])
@pytest.mark.parametrize("function", [it for it in CHECKS_CLASSES if it not in WITHOUT_CLASSES], ids=name_of)
def test_a_label_outside_the_classes_is_named_wherever_it_stands(function, place, bad):
    for kind in (torch.int64, torch.int8):
        labels = WIDE.to(kind, copy=True)
        labels[place] = bad
        with pytest.raises(ValueError, match=rf"\b{'from ' if bad < 0 else 'to '}{bad}\b"):
            LABELS[function](labels)


@pytest.mark.parametrize("function", sorted(OF_TWO, key=name_of), ids=name_of)
@pytest.mark.parametrize("bad", [2, -1, math.nan])
def test_what_is_neither_yes_nor_no_is_refused(function, bad):
    labels = Y.to(torch.float32, copy=True)
    labels[-1] = bad
    with pytest.raises(ValueError, match="use "):
        LABELS[function](labels)


@pytest.mark.parametrize("function", LABELS, ids=name_of)
def test_labels_may_be_views_and_may_come_from_inference_mode(function):
    expected = LABELS[function](Y)
    spread = torch.stack([Y, Y], 1)[:, 0]
    assert not spread.is_contiguous()
    with torch.inference_mode():
        made_there = Y.clone()
        assert equal(LABELS[function](made_there), expected)
    assert made_there.is_inference()
    for labels in (spread, made_there):
        assert equal(LABELS[function](labels), expected)
    with torch.no_grad():
        assert equal(LABELS[function](Y), expected)


@pytest.mark.parametrize("function", [imbalance.adjusted_loss, imbalance.focal_loss], ids=name_of)
def test_losses_train_with_labels_that_were_made_in_inference_mode(function):
    with torch.inference_mode():
        y = WIDE.clone()
        loss = {imbalance.focal_loss: lambda z, y: imbalance.focal_loss(z, y, 1.0, torch.ones(3))}.get(function)
        loss = loss or imbalance.adjusted_loss(torch.tensor([3, 2, 1]))
        loss(P.log(), y)
    logits = P.log().requires_grad_()
    loss(logits, y).backward()
    assert logits.grad.isfinite().all()


# --- numbers -----------------------------------------------------------------------------------------------------------------


def one_image(**options):
    detections = [{"boxes": BOXES, "labels": Y, "scores": SCORES}]
    return {"predictions": detections, "targets": detections} | options


SHAPE = {"in_channels": 1, "num_classes": 2}
# Arguments with which each function that takes numbers can be called.
CALLS = {
    runtime.seed_everything: {"seed": 3},
    runtime.seeds: {"count": 3},
    data.carve: {"name": "n", "train": split_of(Y, 0), "test": split_of(Y, 50), "classes": ("a", "b"), "per_class": 2},
    data.TensorLoader: {"x": X, "y": Y, "batch_size": 5},
    data.shuffled: {"split": (X, Y), "seed": 3, "batch_size": 5},
    data.in_order: {"split": (X, Y), "batch_size": 5},
    augment.random_crop: {"padding": 2},
    augment.random_flip: {"p": 0.5},
    models.fresh: {"make": models.SmallCNN, "seed": 3},
    models.MLP: {"in_features": 3, "num_classes": 2, "dropout": 0.5},
    models.SmallCNN: SHAPE | {"image_size": 8, "width": 2, "dropout": 0.5},
    models.ResNet18: SHAPE | {"width": 1},
    models.AlexNet: SHAPE | {"width": 1, "dropout": 0.5},
    models.VGG16: SHAPE | {"width": 1, "dropout": 0.5},
    metrics.confusion_matrix: {"predictions": Y, "targets": Y, "num_classes": 2},
    calibration.reliability: {"probabilities": P, "targets": Y, "num_bins": 4},
    calibration.ece: {"probabilities": P, "targets": Y, "num_bins": 4},
    calibration.mce: {"probabilities": P, "targets": Y, "num_bins": 4},
    detection.nms: {"boxes": BOXES, "scores": SCORES, "iou_threshold": 0.5},
    detection.match: {"iou": torch.rand(N, 2), "scores": SCORES, "iou_threshold": 0.5},
    detection.precision_recall: {"hits": Y, "scores": SCORES, "num_truths": 20},
    detection.average_precision: {"hits": Y, "scores": SCORES, "num_truths": 20},
    detection.evaluate_detections: one_image(max_detections=3),
    plots.image_grid: {"images": IMAGES, "titles": [""] * N, "columns": 6},
    mixing.mixup: {"alpha": 0.5, "num_classes": 2},
    mixing.cutmix: {"alpha": 0.5, "num_classes": 2},
    mixing.mix_pairs: {"x": X, "p": P, "index": torch.arange(N), "lam": 0.5},
    smoothing.label_smoothing: {"alpha": 0.5, "num_classes": 2},
    noise.disturb_label: {"alpha": 0.5, "num_classes": 2},
    noise.disturb_value: {"sigma": 0.5, "share": 0.5},
    noise.corrupt_labels: {"labels": Y, "share": 0.5, "num_classes": 2, "generator": generator()},
    imbalance.long_tail: {"labels": Y, "largest": 4, "ratio": 2.0, "order": [0, 1], "generator": generator()},
    imbalance.WeightedSampler: {"weights": SCORES, "num_samples": 4},
    imbalance.effective_number: {"counts": torch.tensor([3, 1]), "beta": 0.5},
    imbalance.focal_loss: {"logits": P, "y": Y, "gamma": 0.5},
    imbalance.logit_adjustment: {"logits": P, "counts": torch.tensor([3, 1, 2]), "tau": 0.5},
    imbalance.adjusted_loss: {"counts": torch.tensor([3, 1, 2]), "tau": 0.5},
    pseudo.ramp: {"t": 1.5, "start": 1.0, "end": 2.0, "alpha": 0.5},
    pseudo.confident: {"probabilities": P, "threshold": 0.5},
    pseudo.pseudo_label_loss: {"loader": [], "weight": lambda epoch: 1.0, "threshold": 0.5},
    ensembles.vote: {"predictions": Y[None], "num_classes": 2},
    ensembles.fit_together: {"y": Y, "epochs": 2},
    targets.as_probabilities: {"y": Y, "num_classes": 2},
    targets.checked: {"y": Y, "num_classes": 2},
}
UNCHECKED = {"runtime.progress", "plots.learning_curves"}  # tqdm's and a mark in a figure


def called(function, **changed):
    call = trained_together if function is ensembles.fit_together else function
    made = call(**CALLS[function] | changed)
    plots.plt.close("all")
    return made


def numbers_of(kind):
    return [(function, it.name) for function in CALLS for it in parameters(function) if it.annotation is kind]


@pytest.mark.parametrize("kind", [int, float])
def test_no_function_that_takes_numbers_is_missing_from_the_table(kind):
    for name, function in PUBLIC.items():
        takes = [it.name for it in parameters(function) if it.annotation in (kind, kind | None)]
        assert not takes or function in CALLS or name in UNCHECKED, name
    assert numbers_of(kind)


def same_result(one, two):
    if isinstance(one, (Tensor, list, tuple, float, int)):
        return equal(one, two)
    if isinstance(one, nn.Module):
        return [it.shape for it in one.parameters()] == [it.shape for it in two.parameters()] and str(one) == str(two)
    return type(one) is type(two)


@pytest.mark.parametrize(("function", "name"), numbers_of(int), ids=lambda it: it if isinstance(it, str) else name_of(it))
def test_whole_numbers_of_numpy_and_torch_count_as_pythons(function, name):
    value = CALLS[function][name]
    for same in (np.int64(value), np.int32(value), np.uint8(value), np.array(value), torch.tensor(value)):
        results = []
        for given_value in (value, same):
            for source in CALLS[function].values():
                if isinstance(source, torch.Generator):
                    source.manual_seed(0)
            torch.manual_seed(0)
            results.append(called(function, **{name: given_value}))
        assert same_result(*results)


@pytest.mark.parametrize(
    "bad", [2.5, 3.0, True, None, "3", math.nan, np.float64(3), np.True_, torch.tensor(True), torch.ones(2)]
)
@pytest.mark.parametrize(("function", "name"), numbers_of(int), ids=lambda it: it if isinstance(it, str) else name_of(it))
def test_what_is_no_whole_number_is_refused_by_name(function, name, bad):
    with pytest.raises(ValueError, match=rf"{name} is .*whole number"):
        called(function, **{name: bad})


@pytest.mark.parametrize(("function", "name"), numbers_of(float), ids=lambda it: it if isinstance(it, str) else name_of(it))
def test_numbers_of_numpy_and_torch_count_as_pythons(function, name):
    value = CALLS[function][name]
    same = [np.float64(value), np.float32(value), np.array(value), torch.tensor(value), torch.tensor(value).double()]
    for given_value in [*same, fractions.Fraction(value)]:
        called(function, **{name: given_value})


NOT_NUMBERS = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    None,
    "0.5",
    1j,
    10**400,
    np.float32("nan"),
    torch.tensor(math.inf),
    np.True_,
]
NOT_NUMBERS += [torch.tensor([0.5, 0.5]), torch.tensor(0.5, requires_grad=True)]


@pytest.mark.parametrize("bad", NOT_NUMBERS, ids=str)
@pytest.mark.parametrize(("function", "name"), numbers_of(float), ids=lambda it: it if isinstance(it, str) else name_of(it))
def test_what_is_no_finite_number_is_refused_by_name(function, name, bad):
    with pytest.raises(ValueError, match=rf"{name}(s\[0\])? is "):
        called(function, **{name: bad})


GENERATORS = [it for it in CALLS if "generator" in inspect.signature(it).parameters]


@pytest.mark.parametrize("function", GENERATORS, ids=name_of)
def test_generators_live_on_the_cpu(function):
    with pytest.raises(ValueError, match=r"lives on cuda.*torch\.Generator\(\)"):
        called(function, generator=SimpleNamespace(device=torch.device("cuda")))
    with pytest.raises(ValueError, match=r"generator is 3; .*manual_seed\(seed\)"):
        called(function, generator=3)


# --- the checks themselves ---------------------------------------------------------------------------------------------------


@given(st.integers(-(2**70), 2**70), st.integers(-5, 5), st.integers(0, 2**40))
def test_a_whole_number_is_taken_within_its_range_alone(value, low, span):
    if low <= value <= low + span:
        assert valid.whole_number(value, "n", low, low + span) == value
    else:
        with pytest.raises(ValueError, match=f"n is {value}; it must be from"):
            valid.whole_number(value, "n", low, low + span)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_taken_within_its_range_alone(value):
    if 0 < value < 1:
        assert valid.number(value, "a", "above 0 and below 1", valid.ABOVE_0, valid.BELOW_1) == value
    else:
        with pytest.raises(ValueError, match="above 0 and below 1"):
            valid.number(value, "a", "above 0 and below 1", valid.ABOVE_0, valid.BELOW_1)


def test_arrays_and_lists_are_named():
    for values in (np.zeros(3), [0, 1, 1]):
        for call in (
            lambda: data.TensorLoader(values, torch.zeros(3), 2),  # noqa: B023
            lambda: metrics.mae(torch.zeros(3), values),  # noqa: B023
            lambda: calibration.risk_coverage(values, torch.zeros(3)),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=rf"is of type {type(values).__name__}; make a tensor of it"):
                call()


def test_the_ends_of_ranges_are_within():
    assert valid.share(0, "a") == 0
    assert valid.share(1, "a") == 1
    assert valid.number(5e-324, "a", "", valid.ABOVE_0) == 5e-324
    assert valid.whole_number(7, "n", 7, 7) == 7


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(2, 2000), st.sampled_from([torch.float16, torch.bfloat16]))
def test_probabilities_in_half_precision_are_probabilities(seed, n, k, kind):
    logits = torch.randn(n, k, generator=generator(seed)) * 3
    valid.probabilities(logits.softmax(1).to(kind))
    valid.probabilities(torch.eye(k)[:1].to(kind).expand(n, k))


@pytest.mark.parametrize("spoil", [lambda p: p * 1.1, lambda p: p - 0.1, lambda p: p * math.nan, lambda p: p.log()])
def test_one_bad_row_among_many_is_no_probability(spoil):
    for row in (0, N - 1):
        p = P.clone()
        p[row] = spoil(p[row])
        with pytest.raises(ValueError, match="softmax"):
            valid.probabilities(p)


@given(st.lists(st.floats(0, 1.7e308), min_size=1, max_size=6).filter(any))
def test_ratios_keep_their_ratios_and_have_a_sum(values):
    weights = torch.tensor(values, dtype=torch.float64)
    ratios = valid.ratios(weights, len(values), "one each")
    assert 0 < float(ratios.sum()) < math.inf
    torch.testing.assert_close(ratios / ratios.max(), weights / weights.max(), rtol=1e-12, atol=0)


def test_beside_infinite_weights_finite_ones_count_nothing():
    weights = torch.tensor([1e30, math.inf, 0, math.inf])
    assert valid.ratios(weights, 4, "one each", limit=True).tolist() == [0, 1, 0, 1]
    for bad in ([-1, math.inf], [math.nan, math.inf], [-math.inf, math.inf]):
        with pytest.raises(ValueError, match="at least 0"):
            valid.ratios(torch.tensor(bad), 2, "one each", limit=True)
    with pytest.raises(ValueError, match="finite"):
        valid.ratios(weights, 4, "one each")


NOT_TENSORS = {
    "an array": (lambda values: values.numpy(), r"is of type ndarray; make a tensor of it with torch.from_numpy"),
    "a list": (lambda values: values.tolist(), r"is of type list; make a tensor of it"),
    "nothing": (lambda values: None, r"is of type NoneType"),
    "a sparse tensor": (lambda values: values.to_sparse(), r"sparse tensor.*to_dense"),
}
TWO_BOXES, TWO_SURE, TWO_HITS = (
    torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]),
    torch.tensor([0.9, 0.8]),
    torch.tensor([True, False]),
)
ROW, OTHER_ROW = data.Split(torch.ones(1, 3), torch.ones(1)), data.Split(2 * torch.ones(1, 3), torch.ones(1))
TWO_WHITE = data.Split(torch.full((2, 1, 1, 1), 255, dtype=torch.uint8), torch.tensor([0, 1]))
TWO_IMAGES, TWO_LABELS, TWO_LOGITS = torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), torch.tensor([[1.0, 0], [0, 1]])
OF_TENSORS = {
    "accuracy": (metrics.accuracy, [torch.eye(2, dtype=torch.int64)]),
    "f1": (metrics.f1, [torch.eye(2, dtype=torch.int64)]),
    "convert_boxes": (lambda boxes: detection.convert_boxes(boxes, "xyxy", "xywh"), [TWO_BOXES]),
    "box_iou": (detection.box_iou, [TWO_BOXES, TWO_BOXES]),
    "nms": (lambda boxes, scores: detection.nms(boxes, scores, 0.5), [TWO_BOXES, TWO_SURE]),
    "match": (detection.match, [torch.rand(2, 2), TWO_SURE]),
    "precision_recall": (lambda hits, scores: detection.precision_recall(hits, scores, 2), [TWO_HITS, TWO_SURE]),
    "average_precision": (lambda hits, scores: detection.average_precision(hits, scores, 2), [TWO_HITS, TWO_SURE]),
    "evaluate_detections": (
        lambda boxes, scores: detection.evaluate_detections(
            [{"boxes": boxes, "scores": scores, "labels": TWO_LABELS}], [{"boxes": TWO_BOXES, "labels": TWO_LABELS}]
        ),
        [TWO_BOXES, TWO_SURE],
    ),
    "normalize": (lambda x: augment.normalize([0.0], [1.0])(x, TWO_LABELS), [TWO_IMAGES]),
    "random_crop": (lambda x: augment.random_crop(1)(x, TWO_LABELS), [TWO_IMAGES]),
    "random_flip": (lambda x: augment.random_flip()(x, TWO_LABELS), [TWO_IMAGES]),
    "mixup": (lambda x: mixing.mixup(1, 2)(x, TWO_LABELS), [TWO_IMAGES]),
    "cutmix": (lambda x: mixing.cutmix(1, 2)(x, TWO_LABELS), [TWO_IMAGES]),
    "mix_pairs": (lambda x, p, index: mixing.mix_pairs(x, p, index, 0.5), [TWO_IMAGES, TWO_LOGITS, TWO_LABELS]),
    "paste_box": (lambda x, p, index: mixing.paste_box(x, p, index, (0, 1, 0, 1)), [TWO_IMAGES, TWO_LOGITS, TWO_LABELS]),
    "disturb_value": (lambda y: noise.disturb_value(1)(TWO_IMAGES, y), [torch.rand(2)]),
    "focal_loss": (lambda logits: imbalance.focal_loss(logits, TWO_LABELS, 2), [TWO_LOGITS]),
    "logit_adjustment": (lambda logits: imbalance.logit_adjustment(logits, [1, 2]), [TWO_LOGITS]),
    "adjusted_loss": (lambda logits: imbalance.adjusted_loss([1, 2])(logits, TWO_LABELS), [TWO_LOGITS]),
    "average": (ensembles.average, [torch.rand(2, 3, 4)]),
    "audit": (lambda x: audit.audit(train=(x, TWO_LABELS)), [TWO_IMAGES]),
    "a dataset": (lambda x, y: data.Dataset("a", data.Split(x, y), ROW, OTHER_ROW), [torch.rand(2, 3), torch.rand(2)]),
    "carve": (
        lambda x, y: data.carve("a", data.Split(x, y), TWO_WHITE, classes=("a", "b"), per_class=1),
        [torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1), torch.tensor([0, 1, 0, 1])],
    ),
}


@pytest.mark.parametrize("kind", NOT_TENSORS)
@pytest.mark.parametrize("name", OF_TENSORS)
def test_what_is_no_tensor_is_named_with_its_cure(name, kind):
    call, given = OF_TENSORS[name]
    make, message = NOT_TENSORS[kind]
    call(*given)
    for place in range(len(given)):
        with pytest.raises(ValueError, match=message):
            call(*(make(value) if place == at else value for at, value in enumerate(given)))


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=5))
def test_numbers_are_taken_by_value_with_all_their_digits(values):
    columns = (
        pd.Series(values, index=[f"class {k}" for k in range(len(values))]),
        pd.Series(values, index=range(7, 7 + len(values))),
    )
    for given_as in (values, tuple(values), np.array(values), *columns, [torch.tensor(v, dtype=torch.float64) for v in values]):
        assert valid.floats(given_as, "weights").tolist() == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({0: 3, 1: 4}, r"of type dict; give a list in the order"),
        (Counter([0, 0, 1]), r"of type Counter; give a list in the order"),
        ("12", "give a tensor or a list of numbers"),
        (["1", "2"], "give a tensor or a list of numbers"),
        ([[1], [1, 2]], "give a tensor or a list of numbers"),
        ([10**400, 1], "give a tensor or a list of numbers"),
        ([1j, 2], "give a tensor or a list of numbers"),
        ({1, 2}, "give a tensor or a list of numbers"),
    ],
)
def test_what_holds_no_numbers_in_order_is_refused(values, message):
    for call in (imbalance.inverse_frequency, imbalance.adjusted_loss, lambda values: imbalance.WeightedSampler(values, 2)):
        with pytest.raises(ValueError, match=message):
            call(values)


def test_numbers_beyond_int64_are_refused():
    with pytest.raises(ValueError, match=r"num_classes has 64 bits; it must be below 2 \*\* 63"):
        targets.as_probabilities(torch.tensor([0]), 2**63)
    with pytest.raises(ValueError, match="bits; it must be below"):
        smoothing.label_smoothing(0.1, 10**400)
    with pytest.raises(ValueError, match=f"labels go up to {2**63 + 5}; class indices lie below"):
        valid.class_indices(torch.tensor([2**63 + 5, 1], dtype=torch.uint64))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("sizes", [(1, 3), (3, 1), (2, 4), (0, 2), (2, 0)])
@pytest.mark.parametrize("name", ["mixup", "cutmix", "mix_pairs", "paste_box", "focal_loss", "adjusted_loss"])
def test_unequal_numbers_of_inputs_and_targets_are_named(name, sizes, soft):
    inputs, count = sizes
    x, y = torch.rand(inputs, 1, 4, 4), torch.zeros(count, dtype=torch.int64)
    p = torch.full((count, 2), 0.5)
    index, logits = torch.zeros(inputs, dtype=torch.int64), torch.rand(inputs, 2)
    call = {
        "mixup": lambda y: mixing.mixup(1, 2)(x, y),
        "cutmix": lambda y: mixing.cutmix(1, 2)(x, y),
        "mix_pairs": lambda y: mixing.mix_pairs(x, p, index, 0.5),
        "paste_box": lambda y: mixing.paste_box(x, p, index, (0, 1, 0, 1)),
        "focal_loss": lambda y: imbalance.focal_loss(logits, y, 2),
        "adjusted_loss": lambda y: imbalance.adjusted_loss([1, 2])(logits, y),
    }[name]
    with pytest.raises(ValueError, match=rf"are \({inputs}, .*and targets \({count},"):
        call(p if soft else y)


def test_sparse_labels_and_probabilities_are_named():
    labels = torch.tensor([0, 1, 1]).to_sparse()
    for call in (lambda: valid.class_indices(labels), lambda: targets.as_probabilities(labels, 2)):
        with pytest.raises(ValueError, match=r"sparse tensor.*to_dense"):
            call()
    with pytest.raises(ValueError, match=r"probabilities is a sparse tensor"):
        valid.probabilities(torch.eye(2).to_sparse())


def test_overlaps_and_scores_may_be_integers_but_not_complex():
    for kind in (torch.bool, torch.uint16, torch.uint64):
        assert detection.match(torch.eye(2).to(kind), TWO_SURE).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"iou is torch\.complex64"):
        detection.match(torch.eye(2, dtype=torch.complex64), TWO_SURE)
    with pytest.raises(ValueError, match=r"scores are torch\.complex64"):
        detection.nms(TWO_BOXES, TWO_SURE.to(torch.complex64), 0.5)
