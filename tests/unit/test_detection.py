"""Detection metrics against torchvision, pycocotools and torchmetrics, against hand-worked cases, and at their edges."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision
from torchvision import ops

from course_utils import detection

SEEDS = st.integers(0, 2**32 - 1)
FORMATS = ("xyxy", "xywh", "cxcywh")
ONE_BOX = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def random_boxes(rng, count, *, whole=False, size=30):
    """Corners; with whole numbers, equal boxes, equal IoUs and boxes without area are common."""
    if whole:
        corner, extent = rng.integers(0, 6, (2, count, 2)).astype(float)
    else:
        corner, extent = rng.uniform(0, 50, (count, 2)), rng.uniform(5, size, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + extent], 1)).float()


def random_image(rng, classes=3, whole=False):
    """Ground truth, and detections that are found copies of it, duplicates, mistakes and inventions."""
    count, invented = rng.integers(0, 6), rng.integers(0, 4)
    boxes = random_boxes(rng, count, whole=whole)
    labels = torch.from_numpy(rng.integers(0, classes, count))
    copies = torch.from_numpy(rng.integers(0, max(count, 1), count + count // 2))
    found = boxes[copies]
    found = found if whole else found + torch.from_numpy(rng.normal(0, 1.5, (len(copies), 1))).float()
    confused = torch.from_numpy(rng.random(len(copies)) < 0.2)
    found_labels = torch.where(confused, (labels[copies] + 1) % classes, labels[copies])
    found = torch.cat([found, random_boxes(rng, invented, whole=whole)])
    found_labels = torch.cat([found_labels, torch.from_numpy(rng.integers(0, classes + 1, invented))])
    scores = torch.from_numpy(rng.random(len(found))).float()
    scores = (scores * 5).round() / 5 if whole else scores  # ties
    return {"boxes": found, "scores": scores, "labels": found_labels}, {"boxes": boxes, "labels": labels}


def scenes(seed, count, **options):
    rng = np.random.default_rng(seed)
    predictions, targets = zip(*(random_image(rng, **options) for _ in range(count)), strict=True)
    return list(predictions), list(targets)


def coco_table(predictions, targets, max_detections=100):
    """AP by class and threshold from pycocotools; its categories are the labels of the ground truth."""
    rows, results = [], []
    for number, (found, truth) in enumerate(zip(predictions, targets, strict=True)):
        boxes = ops.box_convert(truth["boxes"].double(), "xyxy", "xywh").tolist()
        for box, label in zip(boxes, truth["labels"].tolist(), strict=True):
            rows.append({"id": len(rows) + 1, "image_id": number, "category_id": label, "bbox": box, "iscrowd": 0})
            rows[-1]["area"] = box[2] * box[3]
        boxes = ops.box_convert(found["boxes"].double(), "xyxy", "xywh").tolist()
        for box, label, score in zip(boxes, found["labels"].tolist(), found["scores"].tolist(), strict=True):
            results.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    labels = sorted({row["category_id"] for row in rows})
    results = [result for result in results if result["category_id"] in labels]
    if not results or not rows:
        return torch.zeros(len(labels), 10, dtype=torch.float64)
    truths = COCO()
    truths.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(len(targets))],
        "annotations": rows,
        "categories": [{"id": label} for label in labels],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truths.createIndex()
        evaluation = COCOeval(truths, truths.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    return torch.from_numpy(evaluation.eval["precision"][..., 0, 0]).mean(1).T


def assert_equals_coco(predictions, targets, **options):
    ours = detection.evaluate_detections(predictions, targets, **options)
    torch.testing.assert_close(ours.table, coco_table(predictions, targets, **options), rtol=0, atol=1e-6)
    assert ours.classes == tuple(sorted({label for truth in targets for label in truth["labels"].tolist()}))


# --- boxes ---------------------------------------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_formats_equal_torchvision(seed, source, target):
    boxes = ops.box_convert(random_boxes(np.random.default_rng(seed), 7), "xyxy", source)
    theirs = ops.box_convert(boxes, source, target)
    torch.testing.assert_close(detection.convert_boxes(boxes, source, target), theirs)
    back = detection.convert_boxes(theirs, target, source)
    torch.testing.assert_close(back, boxes, rtol=1e-5, atol=1e-5)


def test_formats_take_whole_numbers_and_any_leading_dimensions():
    boxes = torch.tensor([[[0, 0, 3, 5]]])
    assert detection.convert_boxes(boxes, "xyxy", "cxcywh").tolist() == [[[1.5, 2.5, 3, 5]]]
    assert detection.convert_boxes(boxes, "xyxy", "xyxy").dtype == torch.float32


@given(SEEDS, st.integers(0, 8), st.integers(0, 8), st.sampled_from(FORMATS), st.booleans())
def test_iou_equals_torchvision(seed, n, m, form, double):
    rng = np.random.default_rng(seed)
    dtype = torch.float64 if double else torch.float32
    pair = [ops.box_convert(random_boxes(rng, count).to(dtype), "xyxy", form) for count in (n, m)]
    ours = detection.box_iou(*pair, format=form)
    assert ours.dtype == dtype
    corners = [ops.box_convert(boxes, form, "xyxy") for boxes in pair]
    torch.testing.assert_close(ours, ops.box_iou(*corners), rtol=1e-5, atol=1e-5)


@given(SEEDS)
def test_iou_of_corners_is_torchvisions_to_the_last_bit_unless_that_is_nan(seed):
    rng = np.random.default_rng(seed)
    pair = random_boxes(rng, 9, whole=True), random_boxes(rng, 8, whole=True)
    assert torch.equal(detection.box_iou(*pair), ops.box_iou(*pair).nan_to_num(0))


def test_iou_of_whole_numbers_and_half_precision():
    boxes = torch.tensor([[0, 0, 200, 200], [100, 0, 300, 200]])
    assert detection.box_iou(boxes.int(), boxes.half())[0].tolist() == pytest.approx([1, 1 / 3])


def test_iou_has_the_gradients_of_torchvisions():
    pair = [random_boxes(np.random.default_rng(seed), 6).requires_grad_() for seed in (0, 1)]
    ours = torch.autograd.grad(detection.box_iou(*pair).square().sum(), pair)
    theirs = torch.autograd.grad(ops.box_iou(*pair).square().sum(), pair)
    torch.testing.assert_close(ours, theirs)


def test_iou_leaves_its_inputs_alone():
    boxes = random_boxes(np.random.default_rng(0), 5)
    before = boxes.clone()
    detection.box_iou(boxes, boxes)
    assert torch.equal(boxes, before)


def test_boxes_without_area_overlap_nothing_not_even_themselves():
    degenerate = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 8], [2, 5, 9, 5]])
    assert ops.box_iou(degenerate, degenerate).isnan().any()
    around = torch.tensor([[0.0, 0, 10, 10]])
    assert detection.box_iou(degenerate, torch.cat([degenerate, around])).count_nonzero() == 0


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (torch.zeros(2, 3), r"\(2, 3\)"),
        (torch.zeros(4), r"\(4,\)"),
        (torch.tensor([[0.0, 0, 1, 1], [30, 40, 10, 10]]), r"box 1 .*30.*negative width or height.*format"),
        (torch.tensor([[0.0, 0, torch.nan, 1]]), "box 0 .*not finite"),
        (torch.tensor([[0.0, 0, torch.inf, 1]]), "box 0 .*not finite"),
    ],
)
def test_iou_refuses_what_are_no_boxes(boxes, words):
    for pair in ((boxes, ONE_BOX), (ONE_BOX, boxes)):
        with pytest.raises(ValueError, match=words):
            detection.box_iou(*pair)


def test_an_unknown_format_is_named():
    with pytest.raises(ValueError, match=r"'yxyx'.*'xyxy'"):
        detection.convert_boxes(ONE_BOX, "xyxy", "yxyx")


# --- suppression ---------------------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(0, 30), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.booleans())
def test_nms_equals_torchvision(seed, count, threshold, whole):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count, whole=whole, size=60)
    scores = torch.from_numpy(rng.integers(0, 5, count) / 4 if whole else rng.random(count)).float()
    assert detection.nms(boxes, scores, threshold).tolist() == ops.nms(boxes, scores, threshold).tolist()


@given(SEEDS, st.integers(0, 30))
def test_nms_by_class_equals_torchvision(seed, count):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, count, size=60), torch.from_numpy(rng.random(count))
    labels = torch.from_numpy(rng.integers(0, 3, count))
    theirs = ops.batched_nms(boxes.double(), scores, labels, 0.3)
    assert detection.nms(boxes, scores, 0.3, labels).tolist() == theirs.tolist()


def test_nms_keeps_neighbours_of_a_dropped_box():
    chain = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # each overlaps the next alone
    assert detection.nms(chain, torch.tensor([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


def test_nms_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"iou_threshold is 50"):
        detection.nms(ONE_BOX, torch.ones(1), 50)
    with pytest.raises(ValueError, match=r"\(2,\).*1 detections"):
        detection.nms(ONE_BOX, torch.ones(2), 0.5)
    with pytest.raises(ValueError, match="NaN"):
        detection.nms(ONE_BOX, torch.tensor([torch.nan]), 0.5)


# --- matching ------------------------------------------------------------------------------------------------------------


def match_by_hand(iou, scores, threshold):
    """The rule as COCO's code has it, one pair after the other."""
    free, matched = set(range(iou.shape[1])), [-1] * len(iou)
    for one in sorted(range(len(iou)), key=lambda i: -scores[i]):
        fit = [(iou[one, truth].item(), truth) for truth in sorted(free) if iou[one, truth] >= threshold]
        if fit:
            matched[one] = max(fit)[1]
            free.discard(matched[one])
    return matched


@given(SEEDS, st.integers(0, 8), st.integers(0, 6), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_matching_follows_the_rule(seed, n, m, threshold):
    rng = np.random.default_rng(seed)
    iou = torch.from_numpy(rng.integers(0, 5, (n, m)) / 4)
    scores = torch.from_numpy(rng.integers(0, 4, n) / 4)
    matched = detection.match(iou, scores, threshold).tolist()
    assert matched == match_by_hand(iou, scores, threshold)
    used = [truth for truth in matched if truth >= 0]
    assert len(used) == len(set(used))


def test_a_duplicate_is_a_false_positive_and_the_surer_one_counts():
    iou = torch.tensor([[0.95], [0.60]])
    assert detection.match(iou, torch.tensor([0.5, 0.9])).tolist() == [-1, 0]


def test_a_surer_detection_may_take_what_another_would_fit_better():
    iou = torch.tensor([[0.6, 0.0], [0.9, 0.7]])
    assert detection.match(iou, torch.tensor([0.9, 0.8])).tolist() == [0, 1]


def test_exactly_the_threshold_is_a_match():
    assert detection.match(torch.tensor([[0.5]]), torch.ones(1), 0.5).tolist() == [0]
    assert detection.match(torch.tensor([[0.4999999]], dtype=torch.float64), torch.ones(1), 0.5).tolist() == [-1]


def test_matching_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        detection.match(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"thresholds are \[50\]"):
        detection.match(torch.zeros(1, 1), torch.zeros(1), 50)
    with pytest.raises(ValueError, match=r"\(1,\).*2 detections"):
        detection.match(torch.zeros(2, 1), torch.zeros(1))


# --- precision, recall, average precision ------------------------------------------------------------------------------

# hits in the order of falling score, ground truths, then AP: voc11, all, coco; worked out by hand.
HAND_WORKED = [
    ("1", 1, 1, 1, 1),
    ("0", 1, 0, 0, 0),
    ("", 3, 0, 0, 0),
    ("01", 1, 1 / 2, 1 / 2, 1 / 2),
    ("1", 2, 6 / 11, 1 / 2, 51 / 101),  # recall 0.5: levels 0..5 of 11, 0..50 of 101
    ("101", 2, (6 + 5 * 2 / 3) / 11, (1 + 2 / 3) / 2, (51 + 50 * 2 / 3) / 101),
    ("0110", 2, 2 / 3, 2 / 3, 2 / 3),  # the envelope lifts 1/2 to 2/3
    ("1000", 1, 1, 1, 1),  # false positives after the last hit cost nothing
    ("1001", 4, (3 + 3 * 1 / 2) / 11, (1 + 1 / 2) / 4, (26 + 25 / 2) / 101),
    ("1" * 3, 10, 4 / 11, 3 / 10, 31 / 101),  # recall 3/10 reaches the level 0.3
]


@pytest.mark.parametrize(("hits", "truths", "voc11", "exact", "coco"), HAND_WORKED)
def test_average_precision_of_hand_worked_cases(hits, truths, voc11, exact, coco):
    flags = torch.tensor([one == "1" for one in hits], dtype=torch.bool)
    scores = torch.linspace(0.9, 0.1, len(hits))
    for kind, expected in (("voc11", voc11), ("all", exact), ("coco", coco)):
        found = detection.average_precision(flags, scores, truths, interpolation=kind)
        assert found.item() == pytest.approx(expected, abs=1e-12), kind


def test_order_of_the_input_does_not_matter_without_ties():
    hits, scores = torch.tensor([True, False, True, False, True]), torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    shuffled = torch.tensor([3, 0, 4, 2, 1])
    for kind in ("coco", "voc11", "all"):
        plain = detection.average_precision(hits, scores, 4, interpolation=kind)
        assert torch.equal(detection.average_precision(hits[shuffled], scores[shuffled], 4, interpolation=kind), plain)


def test_of_equal_scores_the_first_goes_first():
    tied = torch.full((2,), 0.5)
    assert detection.average_precision(torch.tensor([True, False]), tied, 1) == 1
    assert detection.average_precision(torch.tensor([False, True]), tied, 1) == 0.5


@given(SEEDS, st.integers(1, 12), st.integers(1, 8))
def test_leading_dimensions_are_kept(seed, count, truths):
    rng = np.random.default_rng(seed)
    hits = torch.zeros(3, count, dtype=torch.bool)
    for row in hits:
        row[torch.from_numpy(rng.permutation(count)[: min(count, truths)])] = True
    scores = torch.from_numpy(rng.random(count))
    for kind in ("coco", "voc11", "all"):
        together = detection.average_precision(hits, scores, truths, interpolation=kind)
        alone = [detection.average_precision(row, scores, truths, interpolation=kind) for row in hits]
        assert together.tolist() == [one.item() for one in alone]


@given(SEEDS, st.integers(1, 12))
def test_precision_and_recall_count_what_they_say(seed, count):
    rng = np.random.default_rng(seed)
    hits, scores = torch.from_numpy(rng.random(count) < 0.5), torch.from_numpy(rng.random(count))
    precision, recall = detection.precision_recall(hits, scores, count)
    for position, cut in enumerate(sorted(scores.tolist(), reverse=True)):
        right = hits[scores >= cut].sum().item()
        assert precision[position] == right / (position + 1)
        assert recall[position] == right / count


def test_without_ground_truth_there_is_no_average_precision():
    for kind in ("coco", "voc11", "all"):
        nothing = detection.average_precision(torch.tensor([False]), torch.ones(1), 0, interpolation=kind)
        assert nothing.isnan()
    with pytest.raises(ValueError, match="num_truths is 0"):
        detection.precision_recall(torch.tensor([False]), torch.ones(1), 0)


def test_average_precision_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"'voc'.*'coco', 'voc11' or 'all'"):
        detection.average_precision(torch.tensor([True]), torch.ones(1), 1, interpolation="voc")
    with pytest.raises(ValueError, match=r"2 hits for 1 ground truths.*only once"):
        detection.average_precision(torch.tensor([True, True]), torch.ones(2), 1)
    with pytest.raises(ValueError, match=r"\(1,\).*2 detections"):
        detection.average_precision(torch.tensor([True, True]), torch.ones(1), 2)
    with pytest.raises(ValueError, match="NaN"):
        detection.average_precision(torch.tensor([True]), torch.tensor([torch.nan]), 2)


# --- whole evaluations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["plain", "ties and boxes without area"])
def test_two_hundred_scenes_one_by_one_equal_pycocotools(whole):
    predictions, targets = scenes(0, 200, whole=whole)
    for found, truth in zip(predictions, targets, strict=True):
        assert_equals_coco([found], [truth])
    assert_equals_coco(predictions, targets)


@given(SEEDS, st.integers(1, 12), st.integers(1, 4), st.booleans())
def test_evaluation_equals_pycocotools(seed, count, classes, whole):
    assert_equals_coco(*scenes(seed, count, classes=classes, whole=whole))


def test_two_hundred_scenes_equal_torchmetrics():
    predictions, targets = scenes(1, 200)
    # Its own default thresholds are rounded to float32, and a recall of exactly 0.07 then falls on the other side.
    exact = {"iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(), "rec_thresholds": np.linspace(0, 1, 101).tolist()}
    metric = MeanAveragePrecision(class_metrics=True, **exact)
    metric.update(*([image | {"boxes": image["boxes"].double()} for image in part] for part in (predictions, targets)))
    theirs, ours = metric.compute(), detection.evaluate_detections(predictions, targets)
    for mine, name in ((ours.ap, "map"), (ours.ap50, "map_50"), (ours.ap75, "map_75")):
        assert mine == pytest.approx(theirs[name].item(), abs=1e-6), name
    by_class = dict(zip(theirs["classes"].tolist(), theirs["map_per_class"].tolist(), strict=True))
    assert ours.per_class == pytest.approx({label: by_class[label] for label in ours.classes}, abs=1e-6)


@settings(max_examples=10)
@given(SEEDS)
def test_evaluation_of_one_class_is_matching_and_average_precision(seed):
    predictions, targets = scenes(seed, 5, classes=1)
    for kind in ("coco", "voc11", "all"):
        hits, scores = [], []
        for found, truth in zip(predictions, targets, strict=True):
            mine = found["labels"] == 0
            iou = detection.box_iou(found["boxes"][mine].double(), truth["boxes"].double())
            hits.append(detection.match(iou, found["scores"][mine], 0.5) >= 0)
            scores.append(found["scores"][mine])
        count = sum(len(truth["labels"]) for truth in targets)
        expected = detection.average_precision(torch.cat(hits), torch.cat(scores), count, interpolation=kind)
        scored = detection.evaluate_detections(predictions, targets, interpolation=kind)
        assert scored.classes == ((0,) if count else ())
        torch.testing.assert_close(torch.tensor(scored.ap50, dtype=torch.float64), expected, equal_nan=True)


@pytest.mark.parametrize("limit", [1, 3])
def test_only_the_surest_detections_of_a_class_in_an_image_count(limit):
    predictions, targets = scenes(2, 30, classes=2)
    assert_equals_coco(predictions, targets, max_detections=limit)
    full = detection.evaluate_detections(predictions, targets)
    assert detection.evaluate_detections(predictions, targets, max_detections=limit).ap != full.ap


def test_a_hundred_detections_are_the_default_limit():
    truth = {"boxes": ONE_BOX, "labels": torch.tensor([0])}
    wrong = ONE_BOX.expand(100, 4) + 50
    found = {"boxes": torch.cat([wrong, ONE_BOX]), "labels": torch.zeros(101, dtype=torch.int64)}
    found["scores"] = torch.linspace(0.9, 0.1, 101)
    assert_equals_coco([found], [truth])
    assert detection.evaluate_detections([found], [truth]).ap == 0
    assert detection.evaluate_detections([found], [truth], max_detections=101).ap == pytest.approx(1 / 101)


NO_BOXES = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}
NOTHING_FOUND = NO_BOXES | {"scores": torch.empty(0)}
TRUTH = {"boxes": ONE_BOX, "labels": torch.tensor([7])}
FOUND = TRUTH | {"scores": torch.tensor([0.9])}


def test_nothing_found_scores_zero_and_nothing_to_find_has_no_score():
    assert detection.evaluate_detections([NOTHING_FOUND], [TRUTH]).ap == 0
    for found in (FOUND, NOTHING_FOUND):
        nothing = detection.evaluate_detections([found], [NO_BOXES])
        assert nothing.classes == ()
        assert np.isnan([nothing.ap, nothing.ap50, nothing.ap75]).all()
    assert np.isnan(detection.evaluate_detections([], []).ap)


def test_an_image_without_objects_counts_by_its_false_positives():
    surest = FOUND | {"scores": torch.tensor([0.95])}
    assert detection.evaluate_detections([FOUND, NOTHING_FOUND], [TRUTH, NO_BOXES]).ap == 1
    assert detection.evaluate_detections([FOUND, surest], [TRUTH, NO_BOXES]).ap == 0.5
    assert_equals_coco([FOUND, surest], [TRUTH, NO_BOXES])


def test_a_class_without_ground_truth_is_left_out_and_a_missed_one_is_not():
    other = {"boxes": ONE_BOX, "labels": torch.tensor([8]), "scores": torch.tensor([0.99])}
    scored = detection.evaluate_detections([FOUND, other], [TRUTH, TRUTH | {"labels": torch.tensor([3])}])
    assert scored.per_class == {3: 0, 7: 1}
    assert scored.ap == 0.5


def test_results_have_names():
    predictions, targets = scenes(3, 40)
    scored = detection.evaluate_detections(predictions, targets)
    assert scored.table.shape == (3, 10)
    assert scored.ap50 == scored.table[:, 0].mean()
    assert scored.ap75 == scored.at(0.75) == scored.table[:, 5].mean()
    assert scored.ap == pytest.approx(np.mean(list(scored.per_class.values())))
    with pytest.raises(ValueError, match=r"no AP at IoU 0\.52"):
        scored.at(0.52)
    alone = detection.evaluate_detections(predictions, targets, iou_thresholds=[0.75])
    assert torch.equal(alone.table[:, 0], scored.table[:, 5])


@pytest.mark.parametrize(
    ("found", "truth", "words"),
    [
        ([FOUND], [TRUTH, TRUTH], "1 predictions for 2 targets"),
        ([FOUND, TRUTH], [TRUTH, TRUTH], r"predictions\[1\] has no 'scores'"),
        ([FOUND], [{"boxes": ONE_BOX}], r"targets\[0\] has no 'labels'"),
        ([FOUND | {"scores": torch.ones(2)}], [TRUTH], r"predictions\[0\].*scores \(2,\)"),
        ([FOUND | {"boxes": torch.zeros(4)}], [TRUTH], r"boxes \(4,\)"),
        ([FOUND | {"boxes": torch.empty(0)}], [TRUTH], r"boxes \(0,\)"),
        ([FOUND], [TRUTH | {"labels": torch.tensor([7.0])}], r"targets\[0\].*whole numbers"),
        ([FOUND, FOUND | {"scores": torch.tensor([torch.nan])}], [TRUTH, TRUTH], r"predictions\[1\].*NaN"),
        ([FOUND], [TRUTH | {"boxes": torch.tensor([[30.0, 40, 10, 10]])}], r"targets\[0\].*30.*convert_boxes"),
        ([FOUND | {"boxes": ONE_BOX / 0}], [TRUTH], r"predictions\[0\].*not finite"),
    ],
)
def test_an_evaluation_refuses_bad_input_and_names_the_image(found, truth, words):
    with pytest.raises(ValueError, match=words):
        detection.evaluate_detections(found, truth)


def test_an_evaluation_refuses_bad_limits():
    for thresholds in ([], [1.5], [-0.1]):
        with pytest.raises(ValueError, match="IoU thresholds"):
            detection.evaluate_detections([FOUND], [TRUTH], iou_thresholds=thresholds)
    with pytest.raises(ValueError, match="max_detections is 0"):
        detection.evaluate_detections([FOUND], [TRUTH], max_detections=0)


@given(SEEDS, st.sampled_from([1e-150, 1e-25, 1e-19, 1e19, 1e30, 1e150]), st.sampled_from([torch.float32, torch.float64]))
def test_iou_does_not_depend_on_the_unit_of_length(seed, unit, kind):
    limit = torch.finfo(kind)
    if not limit.tiny < unit * 1e-3 or not unit * 100 < limit.max:
        return
    boxes = random_boxes(np.random.default_rng(seed), 12).to(kind)
    torch.testing.assert_close(
        detection.box_iou(boxes * unit, boxes * unit), detection.box_iou(boxes, boxes), rtol=1e-4, atol=1e-5
    )
    image = {"boxes": boxes * unit, "labels": torch.zeros(12, dtype=torch.uint8), "scores": torch.rand(12)}
    assert detection.evaluate_detections([image], [image]).ap == 1


def test_tiny_and_huge_boxes_together():
    boxes = torch.tensor([[0, 0, 1e-30, 1e-30], [0, 0, 1e30, 1e30], [0.0, 0, 1, 1], [2, 2, 2, 2]])
    assert torch.equal(detection.box_iou(boxes, boxes), torch.eye(4) * torch.tensor([1, 1, 1, 0]))


def test_labels_of_nms_belong_to_boxes():
    with pytest.raises(ValueError, match=r"labels have shape \(2,\); there are 1 boxes"):
        detection.nms(ONE_BOX, torch.ones(1), 0.5, torch.zeros(2))


@pytest.mark.parametrize("bad", [torch.nan, -0.1, 1.1])
def test_matching_refuses_what_is_no_overlap(bad):
    with pytest.raises(ValueError, match=r"not in 0\.\.1"):
        detection.match(torch.tensor([[0.5], [bad]]), torch.rand(2))


def test_hits_are_yes_or_no():
    with pytest.raises(ValueError, match="hits go from 0 to 2"):
        detection.precision_recall(torch.tensor([0, 2]), torch.rand(2), 3)


def test_one_threshold_is_refused_in_words():
    for threshold in (0.5, torch.tensor(0.5)):
        with pytest.raises(ValueError, match=r"iou_thresholds are .*0\.5.*or one as \["):
            detection.evaluate_detections([], [], iou_thresholds=threshold)


def test_an_image_that_is_no_dictionary_is_named():
    with pytest.raises(ValueError, match=r"predictions\[0\] is of type tuple; give a dict with boxes, labels, scores"):
        detection.evaluate_detections([(ONE_BOX,)], [{"boxes": ONE_BOX, "labels": torch.tensor([0])}])
