import pytest
import torch

from course_utils import wafers
from course_utils.wafers import PAIRS, PATTERNS

N = 60


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def radius(size=32):
    place = (torch.arange(size) + 0.5) * (2 / size) - 1
    return (place[:, None].square() + place[None, :].square()).sqrt()


@pytest.fixture(scope="module")
def clean():
    """Maps without chance failures, by the name of their pattern: bool (N, 32, 32)."""
    x = wafers.singles(N, generator=generator(), noise=0).x
    return dict(zip(PATTERNS, x[:, 0].bool().split(N), strict=True))


@pytest.mark.parametrize("size", [16, 32, 45])
def test_shapes_types_and_order(size):
    x, y = wafers.singles(3, size, generator=generator())
    assert (x.shape, x.dtype, y.dtype) == ((18, 1, size, size), torch.float32, torch.int64)
    assert y.tolist() == [k for k in range(6) for _ in range(3)]
    x, pairs = wafers.composites(2, size, generator=generator())
    assert (x.shape, x.dtype, pairs.dtype) == ((26, 1, size, size), torch.float32, torch.int64)
    assert pairs.tolist() == [list(pair) for pair in PAIRS for _ in range(2)]
    assert set(x.unique().tolist()) == {0, 1}


def test_thirteen_of_fifteen_pairs_are_legal():
    assert len(PATTERNS) == len(set(PATTERNS)) == 6
    assert len(set(PAIRS)) == 13
    assert all(0 <= first < second < 6 for first, second in PAIRS)
    named = {frozenset((PATTERNS[first], PATTERNS[second])) for first, second in PAIRS}
    assert {"centre", "donut"} not in named
    assert {"edge-ring", "edge-loc"} not in named


@pytest.mark.parametrize("make", [wafers.singles, wafers.composites])
def test_the_generators_state_decides_every_die(make):
    shared = generator(5)
    first, second = make(2, generator=shared), make(2, generator=shared)
    assert torch.equal(first[0], make(2, generator=generator(5))[0])
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], make(2, generator=generator(6))[0])


def test_torchs_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    wafers.singles(1, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_maps_are_alike_even_beyond_a_chunk():
    x, _ = wafers.singles(300, generator=generator())
    assert len(x.flatten(1).unique(dim=0)) == len(x)


@pytest.mark.parametrize("make", [wafers.singles, wafers.composites])
def test_nothing_fails_where_there_is_no_wafer(make):
    x = make(20, generator=generator(), noise=1.0)[0]
    assert torch.equal(wafers.wafer(32), radius() <= 1)
    assert x[:, 0, ~wafers.wafer(32)].sum() == 0
    assert x[:, 0, wafers.wafer(32)].any(0).all()  # and every die on it fails on some map


@pytest.mark.parametrize(
    ("pattern", "nearest", "furthest"),
    [("centre", 0, 0.5), ("donut", 0.15, 0.75), ("edge-ring", 0.82, 1), ("edge-loc", 0.72, 1), ("loc", 0.18, 0.87)],
)
def test_patterns_keep_their_distance_from_the_middle(clean, pattern, nearest, furthest):
    where = radius().expand(N, 32, 32)[clean[pattern]]
    assert where.min() >= nearest
    assert where.max() <= furthest
    assert clean[pattern].flatten(1).any(1).all()  # no map is empty


def test_a_centre_covers_the_middle_and_a_donut_goes_around_it(clean):
    middle = radius() < 0.12
    assert clean["centre"][:, middle].float().mean() > 0.5
    assert not clean["donut"][:, middle].any()
    for part in (slice(0, 16), slice(16, 32)):
        assert clean["donut"][:, part].flatten(1).any(1).all()
        assert clean["donut"][:, :, part].flatten(1).any(1).all()


def test_a_ring_goes_all_around_and_a_local_edge_defect_does_not(clean):
    quarters = [(slice(a, a + 16), slice(b, b + 16)) for a in (0, 16) for b in (0, 16)]

    def touched(maps):
        return sum(maps[:, rows, columns].flatten(1).any(1).int() for rows, columns in quarters)

    assert (touched(clean["edge-ring"]) == 4).all()
    assert (touched(clean["edge-loc"]) <= 2).all()


def spread(maps):
    """Standard deviations of each map's failing dies along and across their main direction, in wafer radii."""
    places = [torch.nonzero(m).double() / 16 for m in maps if m.sum() > 4]
    return torch.stack([torch.linalg.svdvals(p - p.mean(0)) / len(p) ** 0.5 for p in places])


def test_a_scratch_is_long_and_thin_and_a_local_defect_compact(clean):
    scratch, local = spread(clean["scratch"]), spread(clean["loc"])
    assert len(scratch) > 0.9 * N
    assert (scratch[:, 0] / scratch[:, 1]).median() > 3
    assert (local[:, 0] / local[:, 1]).median() < 2
    assert local.max() < 0.2


@pytest.mark.parametrize("pair", PAIRS)
def test_a_composite_has_the_dies_of_both_patterns(clean, pair):
    x, pairs = wafers.composites(N, generator=generator(1), noise=0)
    maps = x[(pairs == torch.tensor(pair)).all(1), 0].bool()
    both = [clean[PATTERNS[k]] for k in pair]
    assert len(maps) == N
    # Where only one of the two can be, dies fail about as often as on its own maps.
    for own, other in (both, both[::-1]):
        alone = own.any(0) & ~other.any(0)
        if alone.sum() > 10:
            assert abs(maps[:, alone].float().mean() - own[:, alone].float().mean()) < 0.1
    assert maps.float().mean() > max(part.float().mean() for part in both)


def test_dies_of_a_pattern_fail_as_often_as_the_density_says(clean):
    share = clean["edge-ring"][:, (radius() > 0.93) & (radius() <= 1)].float().mean(1)
    assert share.min() > 0.35
    assert share.max() <= 1
    assert abs(share.mean() - 0.7) < 0.06


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_noise_is_the_largest_chance_of_any_die(noise):
    maps = wafers.singles(400, generator=generator(), noise=noise).x[:400, 0]  # centres
    share = maps[:, (radius() > 0.55) & (radius() <= 1)].mean(1)
    assert abs(share.mean() - noise / 2) < 0.1 * noise
    assert share.max() < 1.4 * noise
    assert share.min() < 0.1 * noise  # drawn for each map, down to none


@pytest.mark.parametrize("make", [wafers.singles, wafers.composites])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "is 0; it must be at least 1"),
        ({"size": 15}, "size is 15; it must be at least 16"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"noise": 1.5}, "noise is 1.5; a probability"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(2 if arguments else 0, generator=generator(), **arguments)


def test_the_count_that_was_wrong_is_named():
    with pytest.raises(ValueError, match="n_per_pair is -1"):
        wafers.composites(-1, generator=generator())
    with pytest.raises(ValueError, match="n_per_class is 0"):
        wafers.singles(0, generator=generator())
