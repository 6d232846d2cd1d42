import math
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, chisquare, kstest
from torchvision.transforms import v2

from course_utils.augment import chain
from course_utils.techniques import mixing, noise, smoothing, targets

K = 5
TRANSFORMS = {
    "mixup": mixing.mixup(0.4, K),
    "cutmix": mixing.cutmix(1.0, K),
    "label_smoothing": smoothing.label_smoothing(0.1, K),
    "label_smoothing_others": smoothing.label_smoothing(0.1, K, "others"),
    "disturb_label": noise.disturb_label(0.3, K),
}
MIXERS = {name: TRANSFORMS[name] for name in ("mixup", "cutmix")}


def random_batch(seed, n=6, shape=(2, 4, 5), k=K):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.randint(k, (n,), generator=generator)


def random_probabilities(seed, n=6, k=K):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)).softmax(1)


# Targets


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(0, 9))
def test_one_hot_rows_equal_torchs(seed, k, n):
    y = torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(targets.as_probabilities(y, k), F.one_hot(y, k).float())


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int64])
def test_any_integers_are_class_indices(dtype):
    y = torch.tensor([0, 4, 1], dtype=dtype)
    assert targets.as_probabilities(y, K).argmax(1).tolist() == [0, 4, 1]


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, K]), "0 to 5; 5 classes are numbered 0 to 4"),
        (torch.tensor([-1, 1, 2]), "-1 to 2"),
        (torch.tensor([[0], [1], [2]]), r"\(3, 1\)"),
        (torch.tensor([0.0, 1.0, 2.0]), r"probabilities \(B, 5\)"),
        (torch.rand(3, K + 1), r"\(3, 6\)"),
    ],
)
def test_bad_targets_are_named(name, y, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS[name](torch.rand(3, 1, 4, 4), y)


def test_one_class_is_not_a_classification():
    with pytest.raises(ValueError, match="at least 2"):
        mixing.mixup(1.0, 1)(torch.rand(2, 1), torch.zeros(2, dtype=torch.int64))


# What all of them have in common


@pytest.mark.parametrize("name", TRANSFORMS)
@given(seed=st.integers(0, 1000), n=st.integers(1, 9))
def test_targets_stay_distributions_and_inputs_are_not_changed_in_place(name, seed, n):
    x, y = random_batch(seed, n)
    for given_targets in (y, random_probabilities(seed, n)):
        before = x.clone(), given_targets.clone()
        torch.manual_seed(seed)
        new_x, new_y = TRANSFORMS[name](x, given_targets)
        assert torch.equal(x, before[0])
        assert torch.equal(given_targets, before[1])
        assert new_x.shape == x.shape
        assert new_x.dtype == x.dtype
        p = targets.as_probabilities(new_y, K)
        assert (p >= 0).all()
        torch.testing.assert_close(p.sum(1), torch.ones(n))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_indices_and_their_one_hot_rows_are_treated_alike(name):
    x, y = random_batch(3, 50)
    torch.manual_seed(0)
    from_indices = TRANSFORMS[name](x, y)
    torch.manual_seed(0)
    from_rows = TRANSFORMS[name](x, F.one_hot(y, K).float())
    assert torch.equal(from_indices[0], from_rows[0])
    assert torch.equal(targets.as_probabilities(from_indices[1], K), from_rows[1])


@pytest.mark.parametrize("name", MIXERS)
def test_a_batch_of_one_stays_as_it_is(name):
    x, y = random_batch(0, 1)
    new_x, new_y = MIXERS[name](x, y)
    torch.testing.assert_close(new_x, x)
    torch.testing.assert_close(new_y, F.one_hot(y, K).float())


@pytest.mark.parametrize("name", MIXERS)
def test_integer_images_are_refused(name):
    x, y = random_batch(0)
    with pytest.raises(ValueError, match=r"torch.uint8.*augment.normalize"):
        MIXERS[name]((x * 255).to(torch.uint8), y)


@pytest.mark.parametrize("first", TRANSFORMS)
@pytest.mark.parametrize("second", TRANSFORMS)
def test_any_two_can_be_chained(first, second):
    x, y = random_batch(1, 8)
    new_x, new_y = chain(TRANSFORMS[first], TRANSFORMS[second])(x, y)
    assert new_x.shape == x.shape
    torch.testing.assert_close(targets.as_probabilities(new_y, K).sum(1), torch.ones(8))


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("convention", ["all", "others"])
def test_smoothing_before_or_after_mixing_is_the_same(name, convention):
    smooth = smoothing.label_smoothing(0.2, K, convention)
    x, y = random_batch(2, 20)
    results = []
    for order in ((smooth, MIXERS[name]), (MIXERS[name], smooth)):
        torch.manual_seed(5)
        results.append(chain(*order)(x, y))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_disturbing_after_mixing_forgets_one_of_the_two_images():
    torch.manual_seed(0)
    x, y = random_batch(0, 500)
    disturb, mix = noise.disturb_label(1.0, K), mixing.mixup(5.0, K)
    before, after = chain(disturb, mix)(x, y)[1], chain(mix, disturb)(x, y)[1]
    assert (after.max(1).values == 1).all()  # one-hot although two images were mixed: the order that the docs advise against
    assert (before.max(1).values == 1).float().mean() < 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks whether a GPU is ever waited for: there is none here")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_transform_waits_for_a_gpu(name):
    x, y = (part.cuda() for part in random_batch(0, 64))
    TRANSFORMS[name](x, y)  # the first call may wait, to load its kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        TRANSFORMS[name](x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Mixup, CutMix, maximum


def mixed_by_torchvision(transform, x, y, lam):
    """Torchvision's result for a λ that we choose; it takes its partners from the neighbours in the batch."""
    with mock.patch.object(transform, "_dist", mock.Mock(sample=lambda _: torch.tensor(lam))):
        return transform(x, y)


@given(st.integers(0, 1000), st.floats(0, 1), st.integers(2, 8))
def test_mixup_equals_torchvision(seed, lam, n):
    x, y = random_batch(seed, n)
    theirs = mixed_by_torchvision(v2.MixUp(num_classes=K), x, y, lam)
    neighbour = torch.arange(n).roll(1)
    ours = mixing.mix_pairs(x, F.one_hot(y, K).float(), neighbour, lam)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


@given(st.integers(0, 1000), st.floats(0, 1), st.sampled_from([(1, 7, 4), (3, 8, 8), (2, 1, 9)]))
def test_cutmix_equals_torchvision(seed, lam, shape):
    x, y = random_batch(seed, 5, shape)
    torch.manual_seed(seed)
    theirs = mixed_by_torchvision(v2.CutMix(num_classes=K), x, y, lam)
    draws = []
    paste, pairs = mixing.paste_box, torch.arange(5).roll(1)

    def recorded(x, p, index, box):
        draws.append(box)
        return paste(x, p, pairs, box)

    # Torchvision draws the column first: hand both the same two numbers.
    torch.manual_seed(seed)
    column, row = torch.randint(shape[2], ()), torch.randint(shape[1], ())
    with (
        mock.patch.object(torch.distributions, "Beta", return_value=mock.Mock(sample=lambda: torch.tensor(lam))),
        mock.patch.object(mixing, "paste_box", recorded),
        mock.patch.object(mixing.torch, "randint", mock.Mock(side_effect=[row, column])),
    ):
        ours = mixing.cutmix(1.0, K)(x, y)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])
    assert len(draws) == 1


@given(st.integers(0, 1000))
def test_soft_targets_equal_the_form_with_two_losses(seed):
    x, y = random_batch(seed, 8)
    logits = torch.randn(8, K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    index, lam = torch.randperm(8), 0.3
    soft = mixing.mix_pairs(x, F.one_hot(y, K).double(), index, lam)[1]
    two = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[index])
    torch.testing.assert_close(F.cross_entropy(logits, soft), two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_lambda_follows_the_beta_distribution(alpha):
    torch.manual_seed(1)
    x = torch.tensor([[0.0], [1.0]])  # a pair's mixture shows λ, or 1 - λ: both are Beta(α, α)
    transform = mixing.mixup(alpha, 2)
    lams = [transform(x, torch.tensor([0, 1]))[1][0, 0].item() for _ in range(4000)]
    swapped = [lam for lam in lams if lam < 1]  # a sample that is its own partner shows 1
    assert 0.4 < len(swapped) / len(lams) < 0.6
    assert kstest(swapped, "beta", args=(alpha, alpha)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [5e-324, 1e-12, 1e-8, 1e-4, 1e-3, 0.01, 0.05, 0.0999, 0.1, 0.3, 1, 50, 9e5, 2e6, 1e8, 1e15])
def test_lambda_follows_the_beta_distribution_over_the_whole_range(alpha):
    """By the share of draws below some quantiles: both ends of small alphas are closer to 0 and 1 than floats can say."""
    torch.manual_seed(3)
    x, y, n = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1]), 3000
    transform = mixing.mixup(alpha, 2)
    shown = np.array([transform(x, y)[0][1].item() for _ in range(n)])  # λ, or 1 for a sample that is its own partner
    assert ((shown >= 0) & (shown <= 1)).all()
    law = beta(alpha, alpha)
    spread = 0.45 / math.sqrt(2 * alpha + 1)
    for limit in (1e-300, 1e-30, 1e-5, 0.5 - spread, 0.49, 0.5, 0.5 + spread):
        below = float(law.cdf(limit)) if alpha > 1e-300 else 0.5  # towards 0, half of all draws are 0 and half are 1
        assert binomtest(int((shown < limit).sum()), n, below / 2).pvalue > 1e-4
    assert (shown == 0.5).mean() < 0.01


@pytest.mark.parametrize("make", [mixing.mixup, mixing.cutmix])
@pytest.mark.parametrize("alpha", [1e-8, 0.4, 1e8])
def test_mixing_repeats_with_the_seed_and_keeps_distributions(make, alpha):
    x, y = random_batch(0, 8)
    results = []
    for _ in range(2):
        torch.manual_seed(4)
        results.append([make(alpha, K)(x, y) for _ in range(20)])
    for one, same in zip(*results, strict=True):
        assert torch.equal(one[0], same[0])
        assert torch.equal(one[1], same[1])
        assert one[0].isfinite().all()
        torch.testing.assert_close(one[1].sum(1), torch.ones(8))


def test_usual_alphas_keep_torchs_own_draws():
    """Lessons' recorded numbers depend on them: first the partners, then λ."""
    x, y = random_batch(0, 8)
    for alpha in (0.1, 0.2, 1.0, 4, 1000):
        transform = mixing.mixup(alpha, K)
        torch.manual_seed(0)
        ours = [transform(x, y)[0] for _ in range(5)]
        torch.manual_seed(0)
        for mixed in ours:
            partners = torch.rand(8).argsort()
            lam = float(torch.distributions.Beta(float(alpha), float(alpha)).sample())
            assert torch.equal(mixed, mixing.mix_pairs(x, F.one_hot(y, K).float(), partners, lam)[0])


def test_pairs_and_boxes_are_checked():
    x, y = random_batch(0)
    p, index = F.one_hot(y, K), torch.arange(6)
    with pytest.raises(ValueError, match=r"targets are torch.int64.*as_probabilities"):
        mixing.mix_pairs(x, p, index, 0.5)
    for box in ((0, 5, 0, 2), (-1, 2, 0, 2), (2, 1, 0, 1), (0, 1, 0, 6)):
        with pytest.raises(ValueError, match=r"within \(4, 5\) pixels"):
            mixing.paste_box(x, p.float(), index, box)
    for lam in (0, 1):
        mixed = mixing.mix_pairs(x, p.float(), index.flip(0), lam)
        assert torch.equal(mixed[0], x if lam else x.flip(0))


def test_partners_are_a_permutation_and_all_are_equally_likely():
    torch.manual_seed(0)
    n = 4
    x = torch.eye(n)
    transform = mixing.mixup(1.0, 2)
    counts = torch.zeros(n, n)
    for _ in range(3000):
        new_x, _ = transform(x, torch.zeros(n, dtype=torch.int64))
        torch.testing.assert_close(new_x.sum(0), torch.ones(n))  # each image is used once as itself, once as a partner
        other = new_x - torch.diag(new_x.diagonal())
        counts += torch.where(new_x.diagonal() > 1 - 1e-6, torch.eye(n), (other > 0).float())
    assert chisquare(counts.flatten()).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("make", [mixing.mixup, mixing.cutmix])
def test_alpha_must_be_above_zero(make, alpha):
    with pytest.raises(ValueError, match=r"above 0.*leave mixing out"):
        make(alpha, K)


def test_cutmix_wants_images():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        mixing.cutmix(1.0, K)(torch.rand(3, 4), torch.zeros(3, dtype=torch.int64))


# Label smoothing


@given(st.integers(0, 1000), st.floats(0, 1), st.integers(2, 30))
def test_smoothing_equals_torchs_loss(seed, alpha, k):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, k, dtype=torch.float64, generator=generator)
    for y in (
        torch.randint(k, (7,), generator=generator),
        torch.randn(7, k, dtype=torch.float64, generator=generator).softmax(1),
    ):
        smoothed = smoothing.label_smoothing(alpha, k)(logits, targets.as_probabilities(y, k).double())[1]
        theirs = F.cross_entropy(logits, y, label_smoothing=alpha)
        torch.testing.assert_close(F.cross_entropy(logits, smoothed), theirs, rtol=1e-10, atol=1e-10)


@given(st.floats(0, 0.9), st.integers(2, 30))
def test_the_two_conventions_convert_into_each_other(alpha, k):
    in_all = alpha * k / (k - 1)
    if in_all > 1:
        return  # further than to uniform: only the convention "others" can say that
    p = torch.eye(k, dtype=torch.float64)
    others = smoothing.label_smoothing(alpha, k, "others")(p, p)[1]
    to_all = smoothing.label_smoothing(in_all, k)(p, p)[1]
    torch.testing.assert_close(others, to_all, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("convention", ["all", "others"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_smoothing_holds_at_both_ends_and_in_every_precision(convention, kind):
    p = torch.eye(K, dtype=kind)
    assert torch.equal(smoothing.label_smoothing(0, K, convention)(p, p)[1], p)
    gone = smoothing.label_smoothing(1, K, convention)(p, p)[1]
    expected = (torch.ones(K, K) / K if convention == "all" else (1 - torch.eye(K)) / (K - 1)).to(kind)
    torch.testing.assert_close(gone, expected)


def test_smoothing_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="between 0 and 1"):
        smoothing.label_smoothing(1.5, K)
    with pytest.raises(ValueError, match="'all' or 'others'"):
        smoothing.label_smoothing(0.1, K, "some")


# Noise


def test_disturbed_labels_follow_the_stated_distribution():
    torch.manual_seed(0)
    n, k, alpha = 100_000, 10, 0.3
    y = torch.full((n,), 3)
    counts = torch.bincount(noise.disturb_label(alpha, k)(y, y)[1], minlength=k).double()
    expected = torch.full((k,), alpha / k, dtype=torch.float64)
    expected[3] = 1 - alpha * (k - 1) / k  # 73 %
    assert chisquare(counts, expected * n).pvalue > 1e-3


def test_labels_are_disturbed_one_by_one_and_anew():
    torch.manual_seed(0)
    transform, y = noise.disturb_label(0.5, 2), torch.zeros(20_000, dtype=torch.int64)
    first, second = (transform(y, y)[1] for _ in range(2))
    assert binomtest(int((first & second).sum()), 20_000, 1 / 16).pvalue > 1e-3


def test_the_expected_disturbed_target_is_the_smoothed_one():
    torch.manual_seed(0)
    p = random_probabilities(0, 3).double()
    mean = torch.stack([noise.disturb_label(0.4, K)(p, p)[1] for _ in range(20_000)]).mean(0)
    torch.testing.assert_close(mean, smoothing.label_smoothing(0.4, K)(p, p)[1], rtol=0, atol=0.015)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.uint8, torch.bool])
def test_disturbed_indices_are_int64_so_that_any_number_of_classes_fits(dtype):
    torch.manual_seed(0)
    y = torch.zeros(500, dtype=dtype)
    disturbed = noise.disturb_label(1.0, 1000)(y, y)[1]
    assert disturbed.dtype == torch.int64
    assert disturbed.min() >= 0
    assert disturbed.max() > 255


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16])
def test_narrow_labels_are_damaged_as_wide_ones_are(dtype):
    y = torch.arange(400) % 100
    narrow, wide = (noise.corrupt_labels(part, 0.9, 200, torch.Generator().manual_seed(0)) for part in (y.to(dtype), y))
    assert torch.equal(narrow, wide)
    assert wide.max() > 127


def test_noise_on_values_has_the_asked_size_and_share():
    torch.manual_seed(0)
    y = torch.full((50_000,), 20.0)
    added = noise.disturb_value(2.0, share=0.3)(y, y)[1] - y
    assert binomtest(int((added != 0).sum()), len(y), 0.3).pvalue > 1e-3
    assert kstest((added[added != 0] / 2).numpy(), "norm").pvalue > 1e-3


def test_noise_below_the_resolution_of_float32_is_none():
    y = torch.rand(1000) * 40 + 5
    assert torch.equal(noise.disturb_value(1e-8)(y, y)[1], y)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_values_that_get_no_noise_stay_whatever_its_size(kind):
    torch.manual_seed(0)
    y = torch.linspace(-3, 3, 200, dtype=kind)
    disturbed = noise.disturb_value(1e300, share=0.5)(y, y)[1]
    assert not disturbed.isnan().any()
    assert 50 < int((disturbed == y).sum()) < 150
    assert torch.equal(noise.disturb_value(1e300, share=0)(y, y)[1], y)


def test_noise_on_values_keeps_the_shape_and_refuses_classes():
    y = torch.rand(7, 1)
    assert noise.disturb_value(0.1)(y, y)[1].shape == (7, 1)
    with pytest.raises(ValueError, match="disturb_label"):
        noise.disturb_value(0.1)(y, torch.arange(7))
    with pytest.raises(ValueError, match="at least 0"):
        noise.disturb_value(-0.1)
    with pytest.raises(ValueError, match="share is 2"):
        noise.disturb_value(0.1, 2)


@given(st.integers(0, 1000), st.integers(1, 60), st.floats(0, 1), st.integers(2, 12))
def test_exactly_the_asked_share_of_labels_is_wrong(seed, n, share, k):
    y = torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))
    before = y.clone()
    damaged = noise.corrupt_labels(y, share, k, torch.Generator().manual_seed(seed))
    assert torch.equal(y, before)
    assert int((damaged != y).sum()) == round(share * n)
    assert damaged.min() >= 0
    assert damaged.max() < k


@pytest.mark.parametrize(("always_wrong", "right"), [(True, 0), (False, 0.2)])
def test_damaged_labels_are_spread_over_the_classes(always_wrong, right):
    y = torch.zeros(20_000, dtype=torch.int64)
    damaged = noise.corrupt_labels(y, 1, K, torch.Generator().manual_seed(0), always_wrong=always_wrong)
    counts = torch.bincount(damaged, minlength=K).double()
    assert abs(counts[0] / len(y) - right) < 0.015
    assert chisquare(counts[1:]).pvalue > 1e-3


def test_damage_repeats_with_its_generator():
    y = torch.arange(100) % K
    one, two = (noise.corrupt_labels(y, 0.3, K, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    with pytest.raises(ValueError, match="class indices are integers"):
        noise.corrupt_labels(torch.rand(4, K), 0.3, K, torch.Generator())
