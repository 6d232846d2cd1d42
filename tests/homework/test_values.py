"""A right value is right whatever holds it, and what is said about a wrong one is true and tells no answer."""

import array
import dataclasses
import decimal
import enum
import fractions
import json
import math
import re
from collections import Counter, OrderedDict, deque, namedtuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from scipy import sparse

from course_grade import probe, score


def said(expected: object, got: object) -> str:
    """What grading says of an answer, both sides after their journey as JSON; nothing when it is right."""
    wanted, found = (json.loads(json.dumps(probe.plain(value), allow_nan=False)) for value in (expected, got))
    return score.difference(wanted, found)


WHOLE = [int, float, np.int64, np.int16, np.float64, np.float32, np.longdouble, np.array, torch.tensor, decimal.Decimal]
WHOLE += [fractions.Fraction, complex, np.complex64, lambda n: torch.tensor(n, dtype=torch.int32), lambda n: pd.Series([n])[0]]
WHOLE += [lambda n: torch.tensor(float(n), dtype=torch.bfloat16), lambda n: torch.tensor(float(n), requires_grad=True)]
REAL = [
    float,
    np.float64,
    np.array,
    torch.tensor,
    decimal.Decimal,
    fractions.Fraction,
    complex,
    lambda x: pd.Series([x]).mean(),
]
TRUTH = [bool, np.bool_, np.array, torch.tensor, lambda b: pd.Series([b]).any(), lambda b: np.array([b])[0]]
ROWS = [list, tuple, deque, np.array, torch.tensor, pd.Series, pd.Index, lambda row: [np.float64(x) for x in row]]
ROWS += [lambda row: [torch.tensor(x) for x in row], lambda row: pd.Series(row, index=range(7, 7 + len(row)))]
ROWS += [
    lambda row: torch.tensor(row).to_sparse(),
    lambda row: array.array("d", row),
    lambda row: dict(enumerate(row)).values(),
]
ROWS += [lambda row: np.array(row, dtype=object), lambda row: torch.tensor(row, dtype=torch.float64, requires_grad=True)]
TABLES = [
    list,
    np.array,
    torch.tensor,
    pd.DataFrame,
    sparse.csr_array,
    lambda rows: np.array(rows).T.copy().T,
    lambda rows: [torch.tensor(row) for row in rows],
]
rows = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5)
any_kind = settings(derandomize=True, deadline=None, max_examples=150)


@any_kind
@given(st.integers(-100, 100), st.sampled_from(WHOLE), st.sampled_from(WHOLE))
def test_whole_numbers_of_any_kind(number, mine, yours):
    assert said(mine(number), yours(number)) == ""
    assert said(mine(number), yours(number + 1)) == score.ANOTHER


@any_kind
@given(st.floats(-1e6, 1e6), st.sampled_from(REAL), st.sampled_from(REAL))
def test_numbers_of_any_kind(number, mine, yours):
    assert said(mine(number), yours(number)) == ""
    assert said(mine(number), yours(number * 1.001 + 0.001 * math.copysign(1, number))) == score.ANOTHER


@any_kind
@given(st.booleans(), st.sampled_from(TRUTH), st.sampled_from(TRUTH), st.sampled_from(WHOLE))
def test_truth_of_any_kind_and_no_number_in_its_place(truth, mine, yours, number):
    assert said(mine(truth), yours(truth)) == ""
    assert said(mine(truth), yours(not truth)) == score.ANOTHER
    assert said(mine(truth), number(int(truth))) == "a number, expected True or False"
    assert said(number(int(truth)), yours(truth)) == "True or False, expected a number"


@any_kind
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5), st.sampled_from(ROWS), st.sampled_from(ROWS), st.data()
)
def test_rows_of_numbers_of_any_kind(row, mine, yours, data):
    assert said(mine(row), yours(row)) == ""
    wrong = list(row)
    wrong[data.draw(st.integers(0, len(row) - 1))] += 1
    assert said(mine(row), yours(wrong)) == score.ANOTHER
    assert re.fullmatch(r"(shape \(\d,\), expected \(\d,\)|a list of \d, expected \d)", said(mine(row), yours([*row, 1.0])))


@any_kind
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(TABLES), st.sampled_from(TABLES))
def test_tables_of_numbers_of_any_kind(height, width, mine, yours):
    rows = [[row + column / 2 for column in range(width)] for row in range(height)]
    assert said(mine(rows), yours(rows)) == ""
    others = [[number + (row is rows[-1]) for number in row] for row in rows]
    assert said(mine(rows), yours(others)) == score.ANOTHER


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Colour(enum.Enum):
    RED = 3


Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        (10**400, 10**400),
        ([7**6000], [7**6000]),  # more digits than Python writes
        (-(2**63), np.int64(-(2**63))),
        (math.nan, torch.tensor(math.nan)),
        (-math.inf, np.float32(-math.inf)),
        ([math.inf, math.nan], torch.tensor([math.inf, math.nan])),
        (0.0, -0.0),
        (1 - 2j, torch.tensor(1 + 2j).conj()),
        ([1 + 2j], np.array([1 + 2j])),
        ("a", np.str_("a")),
        (["a", "b"], np.array(["a", "b"])),
        (["a", "b"], pd.Series(["a", "b"])),
        ({1, 2.5}, frozenset({np.int64(1), np.float32(2.5)})),
        ({"a", "b"}, {np.str_("b"), "a"}),
        ({1: 2.0, 2: 3.0}, {np.int64(2): 3, np.float64(1): 2}),
        ({0.1: "a"}, {np.float32(0.1): "a"}),
        ({(0, 1): 5}, {(np.int64(0), np.int32(1)): torch.tensor(5)}),
        ({"a": 1}, Counter("a")),
        ({"a": 1}, OrderedDict(a=1)),
        ({"x": 1, "y": 2}, Point(np.float64(1), torch.tensor(2))),
        (pd.Series([1.0, 2.0]), pd.Series([1, 2], index=["a", "b"])),
        (pd.Series([True, False]), np.array([True, False])),
        ([1, 2], Pair(1.0, np.int8(2))),
        (3, Colour.RED),
        (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.uint8)),
        (torch.tensor([0.5, 1]), torch.tensor([0.5, 1], dtype=torch.bfloat16)),
        (torch.tensor([0.5, 1]), np.array([0.5, 1], dtype=np.float16)),
        (torch.zeros(0), []),
        ({np.float16(0.5): 1}, {0.5: np.float16(1)}),
        ([[0.1], [np.float16(0.3)]], np.array([[0.1], [0.3]])),
        (torch.zeros(2, 0), np.zeros((2, 0))),
        (torch.eye(3).T, np.asfortranarray(np.eye(3))),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"a": [1], "b": [2]})),
        (pd.DataFrame({"a": ["x"], "b": [2.0]}), pd.DataFrame({"a": ["x"], "b": [2]})),
        (torch.Size([2, 3]), [2, 3]),
        ([0, 1, 2], range(3)),
    ],
)
def test_the_same_value_in_other_clothes(mine, yours):
    assert said(mine, yours) == ""
    assert said(yours, mine) == ""


@pytest.mark.parametrize(
    ("wanted", "got", "words"),
    [
        (0.5, None, "returned None: is there a `return`?"),
        ([1, 2], [1, None], "None, expected a number"),
        ({"a": [1.0]}, {"a": None}, "None, expected a list"),
        (torch.ones(2), torch.tensor([1, 2]), "dtype int64, expected float32"),
        (torch.ones(2), torch.tensor([True, True]), "dtype bool, expected float32"),
        (torch.ones(2), torch.tensor([1, 1.05], dtype=torch.bfloat16), "another value"),
        (2.0, np.float16(2.004), "another value"),
        (2.0, np.float16("inf"), "inf, where a number was expected"),
        (torch.ones(2), np.array([1, "inf"], dtype=np.float16), "inf, where a number was expected"),
        (torch.ones(2), None, "returned None: is there a `return`?"),
        (None, 3, "another value"),
        (0.5, math.nan, "nan, where a number was expected"),
        ([0.5, 1], [7, math.nan], "nan, where a number was expected"),
        (torch.ones(3), torch.tensor([2, 1, math.nan]), "nan, where a number was expected"),
        ({"loss": 1.0}, {"loss": np.float32("nan")}, "nan, where a number was expected"),
        (1.0, -math.inf, "inf, where a number was expected"),
        (math.inf, -math.inf, "another value"),
        (math.nan, 1.0, "another value"),
        (torch.ones(3), torch.ones(3, 1), "shape (3, 1), expected (3,)"),
        (torch.ones(2, 2), [[1, 1], [1, 1], [1, 1]], "shape (3, 2), expected (2, 2)"),
        (0.5, torch.tensor([0.5]), "shape (1,), expected a number"),
        (torch.ones(3), 1.0, "a number, expected shape (3,)"),
        ([1, 2, 3], [1, 2], "a list of 2, expected 3"),
        ([1, 2, 3], {"a": 1}, "a dict, expected a list"),
        (torch.tensor([1, 2]), torch.tensor([1.0, 2.0]), "dtype float32, expected int64"),
        (1.0, "1.0", "a string, expected a number"),
        ("ab", ["a", "b"], "a list, expected a string"),
        ({1, 2}, [1, 2], "a list, expected a set"),
        ({"a": 1}, {"b": 1}, "a dict with other keys"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), "another value"),
        (10**400, 10**400 + 1, "another value"),
        (1.0, 10**400, "another value"),
        ("right", "wrong", "another value"),
    ],
)
def test_what_is_said_of_a_wrong_value(wanted, got, words):
    assert said(wanted, got) == words


def test_a_dict_of_another_class_is_a_dict():
    """Outputs of a notebook are such dicts."""
    assert score.difference(NotebookNode(a=1), {"a": 1}) == ""
    assert score.difference(NotebookNode(a=NotebookNode(b=1)), NotebookNode(a=NotebookNode(b=2))) == score.ANOTHER


NARROW = [np.float16, lambda x: torch.tensor(x, dtype=torch.float16), lambda x: torch.tensor(x, dtype=torch.bfloat16)]


@any_kind
@given(st.floats(-6e4, 6e4), st.sampled_from(NARROW), st.sampled_from(REAL))
def test_numbers_of_16_bits_are_right_within_their_rounding(number, narrow, wide):
    assert said(wide(number), narrow(number)) == ""
    assert said(wide(number), [narrow(number)][0] * 1.05 + 0.01 * math.copysign(1, number)) == score.ANOTHER
    row = [number, 2 * number / 3]
    assert said(np.array(row), [narrow(item) for item in row]) == ""
    assert said(row, narrow(row)) == ""
    assert said(row, narrow(row) * 1.05 + 0.01 * math.copysign(1, number)) == score.ANOTHER


@any_kind
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=4), st.sampled_from([np.array, torch.tensor, list]))
def test_whole_numbers_stand_for_the_same_real_ones(row, kind):
    assert said(np.array(row, dtype=float), kind(row)) == ""
    assert said(torch.tensor(row, dtype=torch.float32), kind(row)) == ""
    assert said(np.array(row, dtype=float) + 1, kind(row)) != ""


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["nan", "0x1", "float32", "?"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["number", "complex", "set", "columns", "table"]), inner, max_size=2)
        | st.fixed_dictionaries({"shape": st.lists(st.integers(-1, 3), max_size=2) | inner, "dtype": inner, "values": inner})
    ),
    max_leaves=8,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(JSON, JSON)
def test_whatever_a_kernel_sends_is_compared_without_an_error(mine, yours):
    assert score.difference(mine, mine) == ""
    assert isinstance(score.difference(mine, yours), str)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("NotImplementedError: your code", "not answered yet"),
        ("NotImplementedError: ", "not answered yet"),
        ("NotImplementedError: no kernel for int8", "NotImplementedError: no kernel for int8"),
        ("KeyboardInterrupt: ", "stopped: it takes too long"),
        ("sent twice", "sent twice"),
        ("StdinNotImplementedError: raw_input was called", "`input()` cannot be answered while grading"),
        (
            "TypeError: 'NoneType' object is not subscriptable",
            "TypeError: 'NoneType' object is not subscriptable (is there a `return`?)",
        ),
        ("ZeroDivisionError: division by zero", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_said_of_an_error(error, words):
    _, lines = score.score({"a": {"value": 1}}, [{"name": "a", "error": error}], 1, "")
    assert lines == [f"✗ a: {words}"]


# --- emit --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    """Messages that `emit` sends."""
    messages = []
    monkeypatch.setattr(probe, "display", lambda bundle, raw: messages.append(bundle[probe.MIME]))
    return messages


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raises(error: BaseException):
    def compute():
        raise error

    return compute


endless: list = []
endless.append(endless)


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (raises(SystemExit(3)), "SystemExit: 3"),
        (raises(GeneratorExit()), "GeneratorExit: "),
        (raises(MuteError()), "MuteError: "),
        (lambda: endless, "RecursionError: "),
        (lambda: iter("abc"), "cannot be compared"),
        (lambda: np.float64, "a type cannot be compared"),
        (lambda: torch.Tensor, "cannot be compared"),
        (lambda: len, "cannot be compared"),
        (lambda: "x" * 1_000_000, "too large to be compared"),
        (lambda: np.zeros(1_000_000), "1,000,000 numbers are too many to be compared"),
        (lambda: [0.5] * 150_000, "too large to be compared"),
    ],
)
def test_a_check_that_goes_wrong_does_not_cost_the_next_one(sent, compute, words):
    probe.emit("bad", compute)
    probe.emit("good", lambda: 1)
    assert [message["name"] for message in sent] == ["bad", "good"]
    assert words in sent[0]["error"]
    assert sent[1]["value"] == 1


def test_an_interrupt_is_told_and_ends_the_cell(sent):
    with pytest.raises(KeyboardInterrupt):
        probe.emit("slow", raises(KeyboardInterrupt()))
    assert [message["name"] for message in sent] == ["slow"]
    assert sent[0]["error"] == "KeyboardInterrupt: "
