"""Metrics of object detection as pure functions on tensors: IoU, suppression of duplicates, matching, average precision.

Built in lesson 05. The protocol is COCO's with ``area=all`` and at most 100 detections per image and class, and equals
``pycocotools``; no ground truth is a *crowd* region. Boxes are ``(x1, y1, x2, y2)`` unless a function says otherwise, in
pixels whose edges are numbers: a box from 2 to 5 is 3 wide, not 4. A box without area is allowed and overlaps nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils import valid

Format = Literal["xyxy", "xywh", "cxcywh"]
Interpolation = Literal["coco", "voc11", "all"]

# NumPy's spacing, and not torch's: the last bit decides when an IoU or a recall lies exactly on a threshold.
COCO_IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_RECALL_LEVELS = {"coco": np.linspace(0, 1, 101), "voc11": np.arange(11) / 10}


def convert_boxes(boxes: Tensor, source: Format, target: Format) -> Tensor:
    """Write boxes in another format; equals ``torchvision.ops.box_convert``.

    Args:
        boxes: ``(..., 4)``.
        source, target: ``"xyxy"`` (two corners), ``"xywh"`` (top left corner, width, height) or ``"cxcywh"`` (centre, width,
            height).

    Returns:
        ``(..., 4)``, floating point (a centre may be a half).

    Raises:
        ValueError: an unknown format, or boxes of another shape.

    >>> convert_boxes(torch.tensor([10.0, 20.0, 14.0, 30.0]), "xyxy", "cxcywh").tolist()
    [12.0, 25.0, 4.0, 10.0]
    """
    for name in (source, target):
        if name not in ("xyxy", "xywh", "cxcywh"):
            raise ValueError(f"box format is {name!r}; it must be 'xyxy', 'xywh' or 'cxcywh'.")
    _need_four(boxes)
    if not boxes.is_floating_point():
        boxes = boxes.float()
    if source == target:
        return boxes
    corner, other = boxes.split(2, dim=-1)
    if source == "xyxy":
        size = other - corner
    else:
        size = other
        corner = corner - size / 2 if source == "cxcywh" else corner
    second = {"xyxy": corner + size, "xywh": size, "cxcywh": size}[target]
    return torch.cat([corner + size / 2 if target == "cxcywh" else corner, second], dim=-1)


def box_iou(boxes1: Tensor, boxes2: Tensor, format: Format = "xyxy") -> Tensor:
    """Intersection over union of each pair of boxes, without a loop.

    Equals ``torchvision.ops.box_iou``, except that two boxes without area overlap by 0 here and by NaN there. Built in
    lesson 05.

    Args:
        boxes1, boxes2: ``(N, 4)`` and ``(M, 4)`` in the same ``format``.
        format: see `convert_boxes`.

    Returns:
        ``(N, M)`` in 0..1, float32, or float64 when the boxes are.

    Raises:
        ValueError: boxes of another shape, not finite, or with a negative width or height (the usual sign of a wrong
            ``format``).

    >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]]))
    tensor([[0.3333, 0.0000]])
    """
    valid.tensors(boxes1=boxes1, boxes2=boxes2)
    pair = [boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float() for boxes in (boxes1, boxes2)]
    pair = [convert_boxes(boxes, format, "xyxy") for boxes in pair]
    for boxes in pair:
        if boxes.ndim != 2:
            raise ValueError(f"boxes have shape {tuple(boxes.shape)}; box_iou needs (N, 4) and (M, 4).")
        _need_boxes(boxes)
    return _iou_for(*pair)(pair[0][:, None], pair[1][None])


def _iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of corner boxes that broadcast against each other. In place where it can: large results are bound by memory."""
    left, top, right, bottom = boxes1.unbind(-1)
    other_left, other_top, other_right, other_bottom = boxes2.unbind(-1)
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left)).clamp_(min=0)
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top)).clamp_(min=0)
    intersection = width.mul_(height)
    areas = (right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top)
    union = torch.add(*areas, out=height) if not intersection.requires_grad else torch.add(*areas)
    union.sub_(intersection).clamp_(min=torch.finfo(union.dtype).tiny)  # 0 / 0 would be NaN
    return intersection.div_(union)


def _iou_for(*groups: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The fast way to compute IoU where areas of these boxes ``(N, 4)`` stay in the range of floats, else the careful one."""
    for boxes in groups:
        sides = boxes[:, 2:] - boxes[:, :2]
        limit = torch.finfo(boxes.dtype).max ** 0.45
        if not bool(((sides == 0) | ((sides > 1 / limit) & (sides < limit))).all()):
            return _iou_by_side
    return _iou


def _iou_by_side(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of boxes of any size: sides in units of the longer one of the two, so that no area leaves the range of floats."""
    kind = torch.promote_types(boxes1.dtype, boxes2.dtype)
    boxes1, boxes2 = boxes1.double(), boxes2.double()
    shares = []
    for low, high in ((0, 2), (1, 3)):
        # Quarters: the distance of two numbers may be twice the largest float.
        one, other = ((boxes[..., low] / 4, boxes[..., high] / 4) for boxes in (boxes1, boxes2))
        common = (torch.minimum(one[1], other[1]) - torch.maximum(one[0], other[0])).clamp(min=0)
        sides = one[1] - one[0], other[1] - other[0]
        longer = torch.maximum(*sides).clamp(min=torch.finfo(common.dtype).tiny)
        shares.append([part / longer for part in (common, *sides)])
    common, one, other = (width * height for width, height in zip(*shares, strict=True))
    return (common / (one + other - common).clamp(min=torch.finfo(common.dtype).tiny)).to(kind)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Non-maximum suppression: keep the best box, drop those that overlap it by more than the threshold, and so on.

    Equals ``torchvision.ops.nms`` (``batched_nms`` with ``labels``), which is faster on thousands of boxes. Built in
    lesson 05.

    Args:
        boxes: ``(N, 4)`` corners.
        scores: ``(N,)``; of equal scores the first box goes first.
        iou_threshold: 0..1; a box goes when its IoU with a kept one is *above* it.
        labels: numbers of any kind ``(N,)``; when given, a box suppresses only boxes with its own label.

    Returns:
        Positions of the boxes kept, int64, by falling score.

    Raises:
        ValueError: shapes that do not fit, a threshold outside 0..1, a score that is NaN, or what `box_iou` refuses.

    >>> nms(torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]]), torch.tensor([0.8, 0.9, 0.5]), 0.5).tolist()
    [1, 2]
    """
    iou_threshold = valid.share(iou_threshold, "iou_threshold", "an IoU")
    valid.tensors(boxes=boxes, scores=scores, **({} if labels is None else {"labels": labels}))
    if labels is not None and labels.shape != (len(boxes),):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; there are {len(boxes)} boxes, so it must be ({len(boxes)},)."
        )
    _need_scores(scores, len(boxes))
    order = scores.argsort(descending=True, stable=True)
    overlaps = box_iou(boxes[order], boxes[order]).double() > iou_threshold  # double: the threshold must not be rounded
    if labels is not None:
        overlaps &= labels[order, None] == labels[order]
    suppressed = torch.zeros_like(order, dtype=torch.bool)
    for position in range(len(order)):
        if not suppressed[position]:
            suppressed[position + 1 :] |= overlaps[position, position + 1 :]
    return order[~suppressed]


def match(iou: Tensor, scores: Tensor, iou_threshold: float = 0.5) -> Tensor:
    """Match the detections of one image and class to its ground truth, each ground truth at most once.

    By falling score, a detection takes the free ground truth that it overlaps most, if that IoU is at least the threshold (of
    equal ones the last, as COCO does). A second detection of the same object thus stays unmatched. Built in lesson 05.

    Args:
        iou: ``(N, M)`` of N detections with M ground truths.
        scores: ``(N,)``; of equal scores the first detection goes first.
        iou_threshold: 0..1.

    Returns:
        ``(N,)`` int64: the position of the matched ground truth, or -1 for a false positive.

    Raises:
        ValueError: shapes that do not fit, an IoU or a threshold outside 0..1, or a score that is NaN.

    >>> match(torch.tensor([[0.9], [0.8]]), torch.tensor([0.6, 0.7])).tolist()
    [-1, 0]
    """
    valid.tensors(iou=iou)
    if iou.ndim != 2 or iou.is_complex():
        raise ValueError(f"iou is {iou.dtype} of shape {tuple(iou.shape)}; it must be (detections, ground truths).")
    iou = iou if iou.is_floating_point() else iou.double()
    if not bool(((iou >= 0) & (iou <= 1)).all()):
        raise ValueError("an IoU is not in 0..1: match needs the overlaps that box_iou gives.")
    _need_scores(scores, len(iou))
    thresholds = _thresholds([iou_threshold], iou.device)
    rank = torch.empty_like(scores, dtype=torch.int64)
    rank[scores.argsort(descending=True, stable=True)] = torch.arange(len(scores), device=iou.device)
    detection, truth = (iou >= thresholds.min()).nonzero().unbind(1)
    overlap = iou[detection, truth].double()
    return _match(rank[detection], detection, truth, overlap, thresholds, *iou.shape)[0]


def _match(
    rank: Tensor, detection: Tensor, truth: Tensor, iou: Tensor, thresholds: Tensor, num_detections: int, num_truths: int
) -> Tensor:
    """Greedy matching of candidate pairs ``(P,)``, for all thresholds and all images and classes at once.

    ``rank`` is the place of a pair's detection in its image and class, so each step of the loop holds one detection of each.
    Pairs come sorted by detection, then by truth. Returns the matched truth or -1, ``(T, num_detections)``.
    """
    matched = torch.full((len(thresholds), num_detections), -1, device=iou.device)
    free = torch.ones(len(thresholds), num_truths, dtype=torch.bool, device=iou.device)
    order = rank.argsort(stable=True)
    for step in order.split(rank.bincount().tolist()):
        if len(step) == 0:
            continue
        pair_truth, pair_iou = truth[step], iou[step]
        asking, pair_of = detection[step].unique_consecutive(return_inverse=True)
        pair_of = pair_of.expand(len(thresholds), -1)
        offered = torch.where(free[:, pair_truth] & (pair_iou >= thresholds[:, None]), pair_iou, -1.0)
        best = offered.new_full((len(thresholds), len(asking)), -1).scatter_reduce(1, pair_of, offered, "amax")
        is_best = (offered >= 0) & (offered == best.gather(1, pair_of))
        taken = torch.where(is_best, pair_truth, -1)
        taken = torch.full_like(best, -1, dtype=torch.int64).scatter_reduce(1, pair_of, taken, "amax")
        matched[:, asking] = taken
        rows, columns = (taken >= 0).nonzero(as_tuple=True)
        free[rows, taken[rows, columns]] = False
    return matched


def precision_recall(hits: Tensor, scores: Tensor, num_truths: int) -> tuple[Tensor, Tensor]:
    """Precision and recall after each detection, from the surest to the least sure. Built in lesson 05.

    Args:
        hits: bool ``(..., N)``, whether a detection is a true positive.
        scores: ``(N,)``; equal scores keep their order.
        num_truths: ground truths of the class in all images, at least 1.

    Returns:
        ``precision`` and ``recall``, each ``(..., N)`` float64 in 0..1.

    Raises:
        ValueError: shapes that do not fit, a score that is NaN, no ground truth, or more hits than ground truths.

    >>> precision, recall = precision_recall(torch.tensor([True, False, True]), torch.tensor([0.9, 0.8, 0.7]), 4)
    >>> precision.tolist()[:2], recall.tolist()
    ([1.0, 0.5], [0.25, 0.25, 0.5])
    """
    valid.tensors(hits=hits)
    num_truths = valid.whole_number(num_truths, "num_truths", 1)
    _need_scores(scores, hits.shape[-1] if hits.ndim else -1)
    hits = valid.yes_or_no(hits, "hits", "True for a true positive and False for a false one")
    order = scores.argsort(descending=True, stable=True)
    true_positives = hits[..., order].double().cumsum(-1)
    most = int(true_positives.max()) if hits.numel() else 0
    if most > num_truths:
        raise ValueError(f"{most} hits for {num_truths} ground truths: each may be used only once (see `match`).")
    seen = torch.arange(1, hits.shape[-1] + 1, device=hits.device)
    return true_positives / seen, true_positives / num_truths


def average_precision(hits: Tensor, scores: Tensor, num_truths: int, *, interpolation: Interpolation = "coco") -> Tensor:
    """Area below the precision-recall curve after each precision is raised to the highest one at its recall or beyond.

    Built in lesson 05.

    Args:
        hits, scores: see `precision_recall`; leading dimensions of ``hits`` (IoU thresholds, say) are kept.
        num_truths: ground truths of the class in all images, at least 0.
        interpolation: ``"coco"``, the mean over the 101 recalls 0, 0.01, ..., 1; ``"voc11"``, over the 11 recalls 0, 0.1, ...,
            1 (Pascal VOC until 2009); ``"all"``, the exact area (Pascal VOC from 2010).

    Returns:
        ``(...)`` float64 in 0..1; 0 without detections, NaN without ground truth, where precision has no meaning.

    Raises:
        ValueError: an unknown interpolation, or what `precision_recall` refuses.

    >>> hits, scores = torch.tensor([True, False, True]), torch.tensor([0.9, 0.8, 0.7])
    >>> [round(average_precision(hits, scores, 2, interpolation=kind).item(), 4) for kind in ("coco", "voc11", "all")]
    [0.835, 0.8485, 0.8333]
    """
    if interpolation not in ("coco", "voc11", "all"):
        raise ValueError(f"interpolation is {interpolation!r}; it must be 'coco', 'voc11' or 'all'.")
    valid.tensors(hits=hits)
    if valid.whole_number(num_truths, "num_truths", 0) == 0:
        return torch.full(hits.shape[:-1], torch.nan, dtype=torch.float64, device=hits.device)
    precision, recall = precision_recall(hits, scores, num_truths)
    # Beyond the last recall precision is 0; the padding also serves a class without detections.
    envelope = F.pad(precision, (0, 1)).flip(-1).cummax(-1).values.flip(-1)
    if interpolation == "all":
        return (envelope[..., :-1] * F.pad(recall, (1, 0)).diff(dim=-1)).sum(-1)
    levels = torch.from_numpy(_RECALL_LEVELS[interpolation]).to(hits.device)
    first = torch.searchsorted(recall, levels.expand(*recall.shape[:-1], -1).contiguous())
    return envelope.gather(-1, first).mean(-1)


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Average precision by class and IoU threshold, and its usual means (lesson 05).

    Attributes:
        table: float64 ``(K, T)``, for K classes and T thresholds.
        classes: the K labels that occur in the ground truth, rising.
        iou_thresholds: the T thresholds.
    """

    table: Tensor
    classes: tuple[int, ...]
    iou_thresholds: tuple[float, ...]

    @property
    def ap(self) -> float:
        """Mean over classes and thresholds, the "mAP" of COCO; NaN without any ground truth."""
        return self.table.mean().item()

    @property
    def ap50(self) -> float:
        """Mean over classes at IoU 0.5, the "mAP" of Pascal VOC."""
        return self.at(0.5)

    @property
    def ap75(self) -> float:
        """Mean over classes at IoU 0.75."""
        return self.at(0.75)

    @property
    def per_class(self) -> dict[int, float]:
        """Mean over thresholds for each class."""
        return dict(zip(self.classes, self.table.mean(1).tolist(), strict=True))

    def at(self, iou_threshold: float) -> float:
        """Mean over classes at one of the thresholds.

        Raises:
            ValueError: that threshold was not evaluated.
        """
        iou_threshold = valid.share(iou_threshold, "iou_threshold", "an IoU")
        distances = [abs(iou_threshold - threshold) for threshold in self.iou_thresholds]
        nearest = int(np.argmin(distances))
        if distances[nearest] > 1e-9:
            raise ValueError(f"there is no AP at IoU {iou_threshold}; evaluated were {self.iou_thresholds}.")
        return self.table[:, nearest].mean().item()


def evaluate_detections(
    predictions: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    *,
    iou_thresholds: Sequence[float] = COCO_IOU_THRESHOLDS,
    max_detections: int = 100,
    interpolation: Interpolation = "coco",
) -> DetectionScores:
    """Average precision of detections over a set of images, all images and classes at once. Built in lesson 05.

    Equals ``pycocotools.cocoeval.COCOeval`` with ``area=all``. Classes that no ground truth has are left out, as COCO does, and
    with them their detections. Needs memory for each pair of a detection and a ground truth of its image and class.

    Args:
        predictions: per image, ``boxes`` ``(N, 4)`` corners, ``scores`` ``(N,)`` and ``labels`` ``(N,)``, integers of any width
            or booleans; what torchvision's detectors return. Of equal scores the earlier image, then the earlier box, goes
            first. All is computed on the device of the first image's boxes.
        targets: per image, ``boxes`` ``(M, 4)`` and ``labels`` ``(M,)``; ``(0, 4)`` and ``(0,)`` where there is no object.
        iou_thresholds: 0..1 each.
        max_detections: at least 1; per image and class, the surest ones; further ones are not looked at.
        interpolation: see `average_precision`.

    Raises:
        ValueError: lists of different length, a missing key, shapes that do not fit, or boxes, scores, thresholds or counts
            that make no sense; the message names the image.

    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> truth = {"boxes": box, "labels": torch.tensor([3])}
    >>> found = {"boxes": box + 2, "scores": torch.tensor([0.9]), "labels": torch.tensor([3])}  # IoU 0.47
    >>> evaluate_detections([found], [truth], iou_thresholds=[0.4, 0.5]).table.tolist()
    [[1.0, 0.0]]
    """
    predictions, targets = list(predictions), list(targets)
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predictions for {len(targets)} targets; give one of each per image.")
    max_detections = valid.whole_number(max_detections, "max_detections", 1)
    device = next((getattr(parts.get("boxes"), "device", None) for parts in predictions if isinstance(parts, Mapping)), None)
    device = device if isinstance(device, torch.device) else torch.device("cpu")
    image, found = _collect(predictions, "predictions", device, scored=True)
    boxes, labels, scores = found["boxes"], found["labels"], found["scores"]
    truth_image, known = _collect(targets, "targets", device, scored=False)
    truth_boxes, truth_labels = known["boxes"], known["labels"]
    thresholds = _thresholds(iou_thresholds, boxes.device)
    classes, truth_class = truth_labels.unique(return_inverse=True)

    order = scores.argsort(descending=True, stable=True)
    order = order[torch.isin(labels[order], classes)]
    image, boxes, scores, label = image[order], boxes[order], scores[order], torch.searchsorted(classes, labels[order])
    # From here on a group is one class in one image; inside it, detections stand by falling score.
    group, truth_group = image * len(classes) + label, truth_image * len(classes) + truth_class
    order, truth_order = group.argsort(stable=True), truth_group.argsort(stable=True)
    num_groups = len(targets) * len(classes)
    sizes, truth_sizes = (g.bincount(minlength=num_groups) for g in (group, truth_group))
    rank = torch.empty_like(group)
    rank[order] = torch.arange(len(order), device=order.device) - _starts(sizes).repeat_interleave(sizes)
    kept = rank < max_detections
    boxes, scores, label, group, rank = (values[kept] for values in (boxes, scores, label, group, rank))

    offered = truth_sizes[group]  # ground truths that each detection could take
    detection = torch.arange(len(group), device=group.device).repeat_interleave(offered)
    place = torch.arange(len(detection), device=group.device) - _starts(offered).repeat_interleave(offered)
    truth = truth_order[_starts(truth_sizes)[group][detection] + place]
    iou = _iou_for(boxes, truth_boxes)(boxes[detection], truth_boxes[truth])
    near = iou >= thresholds.min()
    detection, truth, iou = detection[near], truth[near], iou[near]
    hits = _match(rank[detection], detection, truth, iou, thresholds, len(group), len(truth_group)) >= 0

    by_class, in_class = label.argsort(stable=True), label.bincount(minlength=len(classes)).tolist()
    rows = [
        average_precision(hits[:, chosen], scores[chosen], count, interpolation=interpolation)
        for chosen, count in zip(by_class.split(in_class), truth_class.bincount().tolist(), strict=True)
    ]
    table = torch.stack(rows) if rows else hits.new_empty((0, len(thresholds)), dtype=torch.float64)
    return DetectionScores(table.cpu(), tuple(classes.tolist()), tuple(float(t) for t in iou_thresholds))


def _starts(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes


def _collect(
    images: Sequence[Mapping[str, Tensor]], what: str, device: torch.device, *, scored: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image number of all boxes, and their boxes, labels and (where ``scored``) scores, after checks that name the image."""
    keys = ("boxes", "labels", "scores") if scored else ("boxes", "labels")
    for number, parts in enumerate(images):
        if not isinstance(parts, Mapping):
            raise ValueError(f"{what}[{number}] is of type {type(parts).__name__}; give a dict with {', '.join(keys)}.")
        for key in keys:
            if key not in parts:
                raise ValueError(f"{what}[{number}] has no {key!r}; it needs {', '.join(keys)}.")
        valid.tensors(**{f"{what}[{number}][{key!r}]": parts[key] for key in keys})
        count = parts["boxes"].shape[0] if parts["boxes"].ndim else 0
        if parts["boxes"].shape != (count, 4) or any(parts[key].shape != (count,) for key in keys[1:]):
            shapes = ", ".join(f"{key} {tuple(parts[key].shape)}" for key in keys)
            raise ValueError(f"{what}[{number}] has {shapes}; expected boxes (N, 4) and one entry per box in the others.")
        if count and (parts["labels"].is_floating_point() or parts["labels"].is_complex()):
            raise ValueError(f"{what}[{number}]: labels are {parts['labels'].dtype}; they must be whole numbers.")
    sizes = torch.tensor([len(parts["boxes"]) for parts in images], dtype=torch.int64)
    kinds = {"boxes": torch.float64, "labels": torch.int64, "scores": torch.float64}
    joined = {}
    for key in keys:
        values = [parts[key].detach().to(device, kinds[key]) for parts in images]
        joined[key] = torch.cat(values) if values else torch.empty(0, dtype=kinds[key], device=device)
    joined["boxes"] = boxes = joined["boxes"].reshape(-1, 4)
    image = torch.arange(len(images)).repeat_interleave(sizes).to(boxes.device)
    bad = ~(boxes.isfinite().all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1))
    if scored:
        bad |= joined["scores"].isnan()
    if bad.any():
        number = int(image[bad][0])
        raise ValueError(
            f"{what}[{number}] has a box that is not finite or has a negative width or height, or a score that is NaN: "
            f"{boxes[bad][0].tolist()}. Boxes are (x1, y1, x2, y2); convert others with convert_boxes."
        )
    return image, joined


def _thresholds(values: Sequence[float], device: torch.device) -> Tensor:
    if not hasattr(values, "__len__") or getattr(values, "ndim", 1) != 1:
        raise ValueError(f"iou_thresholds are {values!r}; give several in one row, or one as [{values!r}].")
    rule = f"IoU thresholds are {list(values)}; give at least one, each between 0 and 1"
    if len(values) == 0:
        raise ValueError(f"{rule}.")
    numbers = [valid.number(value, f"iou_thresholds[{place}]", rule, 0, 1) for place, value in enumerate(values)]
    thresholds = torch.tensor(numbers, dtype=torch.float64, device=device)
    return thresholds.clamp(max=1 - 1e-10)  # as COCO does: rounding must not part two equal boxes


def _need_four(boxes: Tensor) -> None:
    valid.tensors(boxes=boxes)
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes have shape {tuple(boxes.shape)}; the last dimension must be 4.")


def _need_boxes(boxes: Tensor) -> None:
    bad = ~(boxes.isfinite().all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1))
    if bad.any():
        number = int(bad.nonzero()[0])
        raise ValueError(
            f"box {number} is {boxes[number].tolist()} as (x1, y1, x2, y2): not finite, or with a negative width or height. "
            "Say which format the boxes have, or fix the box."
        )


def _need_scores(scores: Tensor, count: int) -> None:
    valid.tensors(scores=scores)
    if scores.is_complex():
        raise ValueError(f"scores are {scores.dtype}; they must be real numbers, which have an order.")
    if scores.shape != (count,):
        raise ValueError(f"scores have shape {tuple(scores.shape)}; there are {count} detections, so it must be ({count},).")
    if bool(scores.isnan().any()):
        raise ValueError("a score is NaN: detections cannot be put in order.")
