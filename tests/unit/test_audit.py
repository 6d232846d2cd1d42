import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils import data
from course_utils.audit import audit


@pytest.fixture(scope="module")
def digits():
    return data.load("mnist-small")


def scaled(split, unit=255):
    return split[0].float() / unit, split[1]


def loader(split, **options):
    return data.TensorLoader(*split, 64, **options)


# Nothing to find


def test_clean_splits_have_no_findings(digits):
    report = audit(**{name: loader(scaled(getattr(digits, name))) for name in ("train", "val", "test")})
    assert report.findings == []
    assert report.rows["train"] == report.rows["train"] | {
        "samples": 3500,
        "unique": 3500,
        "lowest": 0.0,
        "highest": 1.0,
        "smallest class": 350,
        "largest class": 350,
        "in val": 0,
        "in test": 0,
    }
    assert report.rows["train"]["mean"] == pytest.approx(digits.mean.item(), abs=1e-5)
    assert report.rows["train"]["std"] == pytest.approx(digits.std.item(), abs=1e-5)


@given(st.integers(0, 10**6), st.integers(20, 200))
def test_chance_alone_makes_no_finding(seed, n):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2 * n, 1, 6, 6, generator=generator), torch.arange(2 * n) % 2
    halves = (x[:n], y[:n]), (x[n:], y[n:])
    assert audit(train=halves[0], val=halves[1]).findings == []


def test_a_table_of_numbers_is_compared_value_by_value():
    boston = data.load("boston")
    splits = {name: (getattr(boston, name).x / boston.std, getattr(boston, name).y) for name in ("train", "val", "test")}
    report = audit(**splits)
    assert report.findings == []
    assert report.images == {}
    assert "smallest class" not in report.rows["train"]
    column = torch.arange(40.0).unsqueeze(1) / 40
    assert audit(train=(column[::2], None), val=(column[1::2], None)).findings == []


def test_loader_and_tensors_say_the_same(digits):
    x, y = scaled(digits.val)
    assert audit(val=loader((x, y))).rows == audit(val=(x, y)).rows
    assert audit(val=digits.val).rows["val"]["highest"] == 255


# Each bug alone


def only(report, *words):
    """Every finding has one of the words, and every word is in some finding."""
    assert all(any(word in finding for word in words) for finding in report.findings), report.findings
    assert all(any(word in finding for finding in report.findings) for word in words), report.findings


def test_a_split_that_was_not_scaled_is_found(digits):
    report = audit(train=scaled(digits.train), val=scaled(digits.val, unit=1), test=scaled(digits.test))
    only(report, "train and val do not get the same treatment: values from 0 to 1, ", "val has large values")


def test_values_that_ran_over_are_found_though_they_are_scaled(digits):
    x, y = digits.train
    report = audit(train=((255 * x.float() % 256) / 255, y), val=scaled(digits.val))
    only(report, "train and val do not get the same treatment")


def test_repeated_samples_are_counted(digits):
    x, y = scaled(digits.val)
    only(audit(val=(torch.cat([x, x[:30]]), torch.cat([y, y[:30]]))), "val has 530 samples, but only 500 different ones.")


@pytest.mark.parametrize("disguise", [lambda x: x, lambda x: 255 * x, lambda x: x.flip(-1), lambda x: (x - 0.13) / 0.31])
def test_shared_samples_are_found_in_any_disguise(digits, disguise):
    x, y = scaled(digits.train)
    report = audit(train=(x[:2000], y[:2000]), val=(disguise(x[1900:2400]), y[1900:2400]))
    assert report.findings[-1].startswith("val shares 100 of its 500 samples with train: ")
    assert report.rows["val"]["in train"] == report.rows["train"]["in val"] == 100


def test_shared_rows_of_a_table_are_found():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    only(audit(train=(x[:20], None), val=(x[15:], None)), "val shares 5 of its 15 samples with train")


def test_classes_of_different_size_are_found(digits):
    x, y = scaled(digits.train)
    kept = (y != 3) | (torch.arange(len(y)) % 2 == 0)
    report = audit(train=(x[kept], y[kept]))
    only(report, "train is not balanced: from ")
    assert report.rows["train"]["smallest class"] == int((y[kept] == 3).sum())


def test_a_class_that_is_missing_is_named(digits):
    (x, y), kept = scaled(digits.val), digits.val.y != 7
    only(audit(train=scaled(digits.train), val=(x[kept], y[kept])), "val has no sample of class 7")


def test_values_that_are_not_finite_are_found():
    x = torch.rand(20, 4)
    x[3, 1] = torch.nan
    only(audit(train=(x, None)), "train has values that are not finite")


def images(seed=0, n=20):
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("pixels", [1, 20, 36])
def test_values_that_are_not_finite_make_no_two_samples_equal(bad, pixels):
    train, val = images(0), images(1)
    for x in (train, val):
        x.flatten(1)[:, :pixels] = bad
    report = audit(train=(train, None), val=(val, None))
    assert report.findings == [
        f"{name} has values that are not finite: fill or drop them. They stand in 20 of its samples."
        for name in ("train", "val")
    ]
    assert report.rows["val"]["unique"] == 20
    assert report.rows["val"]["in train"] == 0
    known = [row[name] for row in report.rows.values() for name in ("lowest", "highest", "mean", "std")]
    assert torch.tensor(known).isfinite().all() if pixels < 36 else torch.tensor(known).isnan().all()
    assert report.table.shape[1] == 2
    assert report.images["train"].shape == (10, 1, 6, 6)
    assert pixels < 36 or report.images["train"].unique().tolist() == [255 if bad == torch.inf else 0]


def test_broken_samples_that_are_repeated_are_found():
    x = images()
    x[:, :, 0, 0] = torch.nan
    report = audit(train=(x, None), val=(x[15:].flip(-1), None))
    assert report.rows["val"]["in train"] == 5


def test_broken_samples_do_not_hide_another_treatment():
    train, val = images(0, 40), images(1, 40) * 255
    val[3, 0, 0, 0] = torch.nan
    assert any("same treatment" in sentence for sentence in audit(train=(train, None), val=(val, None)).findings)


def test_images_of_one_value_are_the_same_only_if_the_value_is():
    grey = torch.linspace(0, 1, 20).view(20, 1, 1, 1).expand(20, 1, 6, 6)
    report = audit(train=(grey[:12], None), val=(grey[8:], None))
    assert report.rows["train"]["unique"] == 12
    assert report.rows["val"]["in train"] == 4


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.uint16, torch.bool])
@pytest.mark.parametrize("shape", [(30,), (30, 4), (30, 1, 5, 5)])
def test_inputs_of_any_type_and_shape_can_be_audited(kind, shape):
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 3).to(kind)
    assert audit(train=(x, None), val=(x, None)).rows["val"]["in train"] == 30


def test_negative_zero_is_zero():
    zero = torch.zeros(1, 3)
    assert audit(train=(zero, None), val=(-zero, None)).rows["val"]["in train"] == 1


# What is shown


def test_the_pictures_are_the_first_of_each_class_as_the_net_sees_them(digits):
    x, y = scaled(digits.val)
    report = audit(val=(x.flip(-1), y), unlabelled=(x, None))
    first = [int((y == label).nonzero()[0]) for label in range(10)]
    assert torch.equal(report.images["val"], digits.val.x[first].flip(-1))
    assert torch.equal(report.images["unlabelled"], digits.val.x[:10])
    assert report.images["val"].dtype == torch.uint8


def test_the_table_has_a_column_per_split(digits):
    report = audit(val=digits.val, unlabelled=(digits.test.x, None))
    table = report.table
    assert list(table.columns) == ["val", "unlabelled"]
    assert [str(count) for count in table.loc["samples"]] == ["500", "1000"]  # counts stay whole numbers
    assert table.loc["largest class"].tolist() == [50, ""]


def test_soft_targets_have_no_classes():
    x = torch.rand(8, 1, 4, 4)
    report = audit(train=loader((x, torch.full((8, 2), 0.5))))
    assert report.findings == []
    assert "smallest class" not in report.rows["train"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, "at least one split"),
        ({"val": []}, "val is empty"),
        ({"val": (torch.zeros(0, 1), None)}, "val is empty"),
        ({"val": (torch.zeros(3, 1), torch.zeros(2))}, "3 inputs and 2 targets"),
        ({"val": [(torch.zeros(3, 1), None), (torch.zeros(3, 2), None)]}, r"val has samples of shapes \[\(1,\), \(2,\)\]"),
        ({"val": (torch.zeros(3, 1) * 1j, None)}, "val has inputs of torch.complex64"),
    ],
)
def test_bad_splits_are_refused(splits, message):
    with pytest.raises(ValueError, match=message):
        audit(**splits)


# Fainter images than these lose their steps to the rounding of float32 when they are moved far from zero.
@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(0.01, 3), st.integers(64, 255), st.booleans())
def test_rounded_copies_of_bytes_are_found(seed, mean, std, spread, mirrored):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, spread + 1, (20, 1, 8, 8), generator=generator) + torch.randint(
        0, 256 - spread, (1,), generator=generator
    )
    copy = (x.to(torch.uint8).float() / 255 - mean) / std
    report = audit(train=(x.to(torch.uint8), None), val=(copy.flip(-1) if mirrored else copy, None))
    assert report.rows["val"]["in train"] == 20


def test_equal_values_are_equal_whatever_their_type_is():
    whole = torch.arange(24).view(6, 4) - 9
    for kind in (torch.float32, torch.float64, torch.int16, torch.bfloat16):
        assert audit(train=(whole, None), val=(whole.to(kind), None)).rows["val"]["in train"] == 6
    large = torch.tensor([[2**53, 1], [2**53 + 1, 1]])
    report = audit(train=(large, None), val=(large[:1].double(), None))
    assert (report.rows["train"]["unique"], report.rows["train"]["in val"]) == (2, 1)


@pytest.mark.parametrize("shape", [(3, 4), (3, 1, 2, 2)])
def test_all_not_a_numbers_are_one(shape):
    x = torch.rand(shape)
    x.view(3, -1)[:, 0] = torch.nan
    assert audit(train=(x, None), val=(x.neg().abs().where(~x.isnan(), -x), None)).rows["val"]["in train"] == 3


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (torch.rand(3, 2), "split train is of type Tensor; give a pair"),
        ([torch.rand(2, 2), torch.arange(2)], "split train holds something of type Tensor that is not a batch"),
        ((torch.rand(3, 2), None, None), "split train holds something of type Tensor"),
        (3, "split train is of type int"),
        ((torch.rand(3, 1, 0, 4), None), r"split train has samples of shape \(1, 0, 4\): there is no value"),
        (([[0.0, 1.0]], None), "x of split train is of type list|holds something"),
        ((torch.rand(3, 2), [0, 1, 1]), "y of split train is of type list"),
    ],
)
def test_what_is_no_split_is_named(split, message):
    with pytest.raises(ValueError, match=message):
        audit(train=split)
