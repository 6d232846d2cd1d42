"""The wafer maps of lesson 07 show what their names say. The lesson's folded cells that draw them are run as they stand."""

import runpy
from types import SimpleNamespace

import pytest
import torch

import course

N = 60
CELLS = ("problem-places", "problem-regions", "problem-maps", "problem-data")
SET_UP = "import torch\nfrom course_utils import data\n"


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the cells define, by name."""
    notebook = course.read(next(path for path in course.lessons() if course.number(path) == "07"))
    sources = [cell.source for cell in notebook.cells if cell.id in CELLS]
    assert len(sources) == len(CELLS)
    script = tmp_path_factory.mktemp("wafers") / "cells.py"
    script.write_text("\n".join([SET_UP, *sources]), encoding="utf-8")
    return SimpleNamespace(**runpy.run_path(str(script)))


@pytest.fixture(scope="module")
def clean(lesson):
    """Maps without chance failures, by the name of their pattern: bool (N, 32, 32)."""
    kinds = [(name,) for name in lesson.PATTERNS]
    maps = lesson.wafer_maps(kinds, N, generator(), noise=0)
    return dict(zip(lesson.PATTERNS, maps[:, 0].bool().split(N), strict=True))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distances():
    """Of the dies from the middle of the wafer, in its radii."""
    place = (torch.arange(32) + 0.5) / 16 - 1
    return (place[:, None].square() + place[None, :].square()).sqrt()


def test_shapes_types_and_order(lesson):
    x, y = lesson.single_maps(3, generator())
    assert (x.shape, x.dtype, y.dtype) == ((18, 1, 32, 32), torch.float32, torch.int64)
    assert y.tolist() == [k for k in range(6) for _ in range(3)]
    x, pairs = lesson.composite_maps(2, generator())
    assert (x.shape, x.dtype, pairs.dtype) == ((26, 1, 32, 32), torch.float32, torch.int64)
    assert pairs.tolist() == [list(pair) for pair in lesson.PAIRS for _ in range(2)]
    assert set(x.unique().tolist()) == {0, 1}


def test_thirteen_of_fifteen_pairs_are_legal(lesson):
    assert len(lesson.PATTERNS) == len(set(lesson.PATTERNS)) == 6
    assert len(set(lesson.PAIRS)) == 13
    assert all(0 <= first < second < 6 for first, second in lesson.PAIRS)
    named = {frozenset((lesson.PATTERNS[first], lesson.PATTERNS[second])) for first, second in lesson.PAIRS}
    assert {"centre", "donut"} not in named
    assert {"edge-ring", "edge-loc"} not in named


@pytest.mark.parametrize("kind", ["single_maps", "composite_maps"])
def test_the_generator_alone_decides_every_die(lesson, kind):
    make = getattr(lesson, kind)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    shared = generator(5)
    first, second = make(2, shared), make(2, shared)
    assert torch.equal(first.x, make(2, generator(5)).x)
    assert not torch.equal(first.x, second.x)
    assert not torch.equal(first.x, make(2, generator(6)).x)
    assert torch.equal(torch.get_rng_state(), before)  # torch's global generator is left alone


def test_no_two_maps_are_alike_even_beyond_a_chunk(lesson):
    x = lesson.single_maps(300, generator()).x
    assert len(x.flatten(1).unique(dim=0)) == len(x) == 1800


def test_nothing_fails_where_there_is_no_wafer(lesson):
    x = lesson.wafer_maps([("centre",)], 20, generator(), noise=1.0)[:, 0]
    on_wafer = distances() <= 1
    assert torch.equal(lesson.on_wafer, on_wafer)
    assert x[:, ~on_wafer].sum() == 0
    assert x[:, on_wafer].any(0).all()  # and every die on it fails on some map


@pytest.mark.parametrize(
    ("pattern", "nearest", "furthest"),
    [("centre", 0, 0.5), ("donut", 0.15, 0.75), ("edge-ring", 0.82, 1), ("edge-loc", 0.72, 1), ("loc", 0.18, 0.87)],
)
def test_patterns_keep_their_distance_from_the_middle(clean, pattern, nearest, furthest):
    where = distances().expand(N, 32, 32)[clean[pattern]]
    assert where.min() >= nearest
    assert where.max() <= furthest
    assert clean[pattern].flatten(1).any(1).all()  # no map is empty


def test_a_centre_covers_the_middle_and_a_donut_goes_around_it(clean):
    middle = distances() < 0.12
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


def test_a_composite_has_the_dies_of_both_patterns(lesson, clean):
    kinds = [(lesson.PATTERNS[first], lesson.PATTERNS[second]) for first, second in lesson.PAIRS]
    x = lesson.wafer_maps(kinds, N, generator(1), noise=0)[:, 0].bool()
    for pair, maps in zip(kinds, x.split(N), strict=True):
        both = [clean[name] for name in pair]
        # Where only one of the two can be, dies fail about as often as on its own maps.
        for own, other in (both, both[::-1]):
            alone = own.any(0) & ~other.any(0)
            if alone.sum() > 10:
                assert abs(maps[:, alone].float().mean() - own[:, alone].float().mean()) < 0.1
        assert maps.float().mean() > max(part.float().mean() for part in both)


def test_dies_of_a_pattern_fail_with_a_chance_of_a_half_to_nine_tenths(clean):
    share = clean["edge-ring"][:, (distances() > 0.93) & (distances() <= 1)].float().mean(1)
    assert share.min() > 0.35
    assert share.max() <= 1
    assert abs(share.mean() - 0.7) < 0.06


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_noise_is_the_largest_chance_of_any_die(lesson, noise):
    maps = lesson.wafer_maps([("centre",)], 400, generator(), noise=noise)[:, 0]
    share = maps[:, (distances() > 0.55) & (distances() <= 1)].mean(1)
    assert abs(share.mean() - noise / 2) < 0.1 * noise
    assert share.max() < 1.4 * noise
    assert share.min() < 0.1 * noise  # drawn for each map, down to none
