import functools
import itertools
import os
import random
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils import check
from course_utils.data import TensorLoader


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (200, 200),
        (0.1 + 0.2, 0.3),
        (1e9 + 1, 1e9),
        ([1, 2], (1.0, 2.0)),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1, 2]),
        (np.array([1, 2]), torch.tensor([1, 2])),
        (float("nan"), float("nan")),
        (" Overfitting ", "overfitting"),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_a_right_answer_is_right_in_any_form(capsys, answer, expected):
    assert check.value(answer, expected) is True
    assert capsys.readouterr().out == "✓ right.\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (201, 200),
        (0.3001, 0.3),
        ([1, 2], [1, 2, 3]),
        ([[1, 2]], [1, 2]),
        ("200", 200),
        (200, "200"),
        ({"a": 1}, {"a": 2}),
        ("a", "b"),
    ],
)
def test_a_wrong_answer_is_wrong(capsys, answer, expected):
    assert check.value(answer, expected) is False
    assert capsys.readouterr().out.startswith(f"✗ not yet: {answer!r} is not it.")


@pytest.mark.parametrize("stub", [None, ...])
def test_an_untouched_stub_is_neither(capsys, stub):
    assert check.value(stub, 200) is None
    assert "not answered yet" in capsys.readouterr().out


def test_wrong_numbers_are_told_their_direction(capsys):
    check.value(3, 2)
    check.value(1, 2)
    check.value(True, 2)
    too_large, too_small, neither = capsys.readouterr().out.splitlines()
    assert too_large.endswith("It is too large.")
    assert too_small.endswith("It is too small.")
    assert neither.endswith("is not it.")


def test_a_particular_wrong_answer_gets_its_hint(capsys):
    hints = {100: "that is one epoch", "ten": "write a number"}
    assert check.value(100, 200, hints=hints) is False
    assert check.value("Ten", 200, hints=hints) is False
    assert check.value(150, 200, hints=hints) is False
    assert capsys.readouterr().out.splitlines() == [
        "✗ not yet: that is one epoch",
        "✗ not yet: write a number",
        "✗ not yet: 150 is not it. It is too small.",
    ]


def test_the_tolerance_can_be_chosen():
    assert check.value(0.31, 0.3) is False
    assert check.value(0.31, 0.3, tolerance=0.05) is True


def square(a):
    return a * a


def test_a_right_function_is_right_in_all_cases(capsys):
    assert check.function(lambda a: a**2, square, [(2,), (torch.tensor([1.0, 3.0]),), (-1.5,)]) is True
    assert capsys.readouterr().out == "✓ right in all 3 cases.\n"


def test_the_first_case_that_differs_is_reported_with_its_hint(capsys):
    def double(a):
        return a + a

    assert check.function(double, square, [(2,), (3,), (4,)], hints={1: "try 3 on paper", 2: "never shown"}) is False
    assert capsys.readouterr().out == "✗ case 1, double(3): got 6, expected 9. Hint: try 3 on paper\n"


def test_an_exception_in_an_answer_is_reported_and_does_not_stop_the_notebook(capsys):
    def broken(a):
        raise ZeroDivisionError("division by zero")

    assert check.function(broken, square, [(2,)], hints={0: "look at the denominator"}) is False
    assert capsys.readouterr().out == (
        "✗ case 0, broken(2): it raised ZeroDivisionError: division by zero. Hint: look at the denominator\n"
    )


def test_a_function_that_returns_nothing_is_not_answered_yet(capsys):
    assert check.function(lambda a: None, square, [(2,)]) is None
    assert "not answered yet" in capsys.readouterr().out
    assert check.function(lambda a: None if a == 3 else a * a, square, [(2,), (3,)]) is False
    assert check.function(lambda a: None, lambda a: None, [(2,)]) is True  # nothing is what was asked for


def stub(*arguments):
    raise NotImplementedError("your code")


def test_a_stub_that_raises_not_implemented_is_not_answered_yet(capsys):
    assert check.function(stub, square, [(2,), (3,)]) is None
    assert capsys.readouterr().out == f"{check.NOT_YET}\n"
    assert check.function(lambda a: stub() if a == 3 else a * a, square, [(2,), (3,)]) is False
    assert "it raised NotImplementedError: your code" in capsys.readouterr().out


def test_an_attempt_returns_what_the_answer_returns_and_survives_a_stub(capsys):
    assert check.attempt(square, 3) == 9
    assert capsys.readouterr().out == ""
    assert check.attempt(stub, 3) is None
    assert capsys.readouterr().out == f"{check.NOT_YET}\n"
    with pytest.raises(ZeroDivisionError):
        check.attempt(lambda: 1 / 0)


def test_long_values_are_shortened(capsys):
    check.function(lambda a: a, square, [(torch.full((3, 4), 2.0),), ("never",)])
    check.function(lambda text: text, lambda text: "", [("x" * 100,)])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "✗ case 0, function(tensor(3, 4)): got tensor(3, 4), expected tensor(3, 4)."
    assert "x" * 57 + "…" in second
    assert "x" * 58 not in second


def pair(x):
    return x, x + 1


@pytest.mark.parametrize(("answer", "right"), [(pair, True), (lambda x: (x, x), False)], ids=["right", "wrong"])
def test_a_function_may_return_a_batch_of_two_tensors(answer, right):
    assert check.function(answer, pair, [(torch.rand(3, 2),)]) is right


# --- a right value of another kind is right, and a wrong one is wrong -------------------------------------------------------

KINDS = {
    "float": float,
    "NumPy's number": np.float64,
    "NumPy's single number": np.float32,
    "long double": np.longdouble,
    "array without dimensions": np.array,
    "tensor without dimensions": torch.tensor,
    "fraction": Fraction,
    "decimal": Decimal,
    "complex": complex,
    "tensor that requires a gradient": lambda number: torch.tensor(number, requires_grad=True) * 1,
    "bfloat16": lambda number: torch.tensor(number, dtype=torch.bfloat16),
    "float16": np.float16,
}


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, repeat=2)))
def test_a_number_is_compared_whatever_holds_it(one, other):
    for hold in (lambda number: number, lambda number: [number, number], lambda number: {"a": number}):
        answer, expected, wrong = (hold(KINDS[kind](number)) for kind, number in ((one, 0.3), (other, 0.3), (other, 0.31)))
        assert check.value(answer, expected) is True
        assert check.value(answer, wrong) is False


HOLDERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda numbers: np.array(numbers, dtype=object),
    "array of the other byte order": lambda numbers: np.array(numbers, dtype=">f8"),
    "array backwards": lambda numbers: np.array(numbers[::-1])[::-1],
    "array that cannot be written": lambda numbers: np.broadcast_to(np.array(numbers), len(numbers)),
    "tensor": torch.tensor,
    "tensor that requires a gradient": lambda numbers: torch.tensor(numbers).double().requires_grad_() + 0,
    "sparse": lambda numbers: torch.tensor(numbers).to_sparse(),
    "quantised": lambda numbers: torch.quantize_per_tensor(torch.tensor(numbers).float(), 0.5, 0, torch.qint32),
    "series": lambda numbers: pd.Series(numbers),
    "series with labels": lambda numbers: pd.Series(numbers, index=list("abcdefghi")[: len(numbers)]),
    "values of a dictionary": lambda numbers: dict(enumerate(numbers)).values(),
    "list of tensors": lambda numbers: [torch.tensor(number) for number in numbers],
}


@pytest.mark.parametrize(
    ("one", "other"), [pair for pair in itertools.product(HOLDERS, repeat=2) if pair[0] == pair[1] or "series" not in pair[1]]
)
def test_numbers_are_compared_whatever_holds_them(one, other):
    answer, expected = HOLDERS[one], HOLDERS[other]
    assert check.value(answer([1.5, 0.0, -4.0]), expected([1.5, 0.0, -4.0])) is True
    for wrong in ([1.5, 0.0, 4.0], [1.5, 0.0], [1.5, 0.0, -4.0, 0.0], [0.0, 1.5, -4.0]):
        assert check.value(answer(wrong), expected([1.5, 0.0, -4.0])) is False


@given(st.lists(st.floats() | st.integers() | st.booleans(), max_size=5), st.floats() | st.integers(-(10**400), 10**400))
def test_values_equal_themselves_and_not_what_is_longer(numbers, more):
    assert check.value(list(numbers), tuple(numbers)) is True
    assert check.value([*numbers, more], numbers) is False
    assert check.value(more, more) is True
    assert check.value(more, [more]) is False


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        (np.bool_(True), True, True),
        (torch.tensor(False), True, False),
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),
        (10**400, 1e308, False),
        (1e308, 10**400, False),
        (float("inf"), float("inf"), True),
        (float("inf"), 5, False),
        (5, float("inf"), False),
        ([5.0, 1.0], torch.tensor([float("inf"), 1.0]), False),
        (-float("inf"), float("inf"), False),
        (float("nan"), 0, False),
        (torch.tensor([1.0, float("nan")]), [1, float("nan")], True),
        (3 + 0j, 3, True),
        (3 + 1j, 3, False),
        (torch.tensor(3.0, dtype=torch.bfloat16), 3 + 1j, False),
        (torch.tensor([3.0], dtype=torch.float16), torch.tensor([3 + 1j]), False),
        (torch.tensor([1 + 2j]), [1 + 2j], True),
        (torch.tensor([2**53 + 1]), [2**53], True),  # within the tolerance, which is relative
        (torch.tensor(200.0, dtype=torch.bfloat16), 201, False),
        (torch.tensor(255.0, dtype=torch.bfloat16), 256, False),
        ({1, 2}, {2.0, 1.0}, True),
        ({1, 2}, {1, 3}, False),
        ({1, "a"}, frozenset({"a", 1}), True),
        ({"b": 2, "a": [1]}, OrderedDict(a=torch.tensor([1]), b=2.0), True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (np.array(["over", "right"]), ["over", "Right"], True),
        (np.array(["over", "right"]), ["over", "under"], False),
        ("가", "\u1100\u1161", True),  # composed, and decomposed as a Mac gives it
        (range(3), [0, 1, 2], True),
        (torch.zeros(0, 3), torch.zeros(0, 4), False),
        (torch.zeros(2, 1), torch.zeros(1, 2), False),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]}), True),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), False),
        (pd.Series([1, 2], index=["x", "y"]), pd.Series([1, 2], index=["y", "x"]), False),
        (pd.Series([1, pd.NA]), pd.Series([1, pd.NA]), True),
        (torch.float32, torch.float32, True),
        (torch.float32, torch.float64, False),
    ],
)
def test_values_at_the_edges(answer, expected, right):
    assert check.value(answer, expected) is right
    assert check.function(lambda _: answer, lambda _: expected, [(1,)]) is right


FEW_BITS = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FEW_BITS)
@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_to_few_bits_is_right_and_overflow_is_not(dtype, sign):
    limits = torch.finfo(dtype)
    large, larger = sign * limits.max * (1 - limits.eps / 8), sign * float(limits.max) * 1e6
    largest, over = (torch.tensor([number], dtype=torch.float64).to(dtype) for number in (large, larger))
    assert check.value(largest, [large]) is True
    for wrong in ([larger], [2 * larger], [float("inf")], [-large]):
        assert check.value(largest, wrong) is False
    assert check.value(over, [larger]) is False
    assert check.value(over, [1.5 * larger]) is False
    assert check.value([larger], over) is False
    assert check.value(over, over.clone()) is True
    assert check.value(torch.tensor([1.0]).to(dtype), [1.0]) is True


def test_overflow_in_one_place_does_not_hide_rounding_in_another():
    with np.errstate(over="ignore"):
        assert check.value(np.float16(1e6), 123456.0) is False
    assert check.value(torch.tensor([7e4, 0.1]).half(), [9e4, 0.1]) is False
    assert check.value(torch.tensor([7e4, 0.1]).half(), [float("inf"), 0.1]) is True


HUGE = [Decimal("1e400"), Decimal("2e400"), Decimal("1e999999"), -Decimal("1e400"), Fraction(10**400, 3), Fraction(10**401, 3)]
if np.finfo(np.longdouble).max > np.finfo(np.float64).max:  # some machines have no longer numbers
    HUGE += [np.longdouble("1e4000"), np.longdouble("2e4000")]


@pytest.mark.parametrize("number", HUGE)
def test_a_number_that_float_cannot_hold_equals_itself_alone(number):
    for hold in (lambda one: one, lambda one: [one, 1], lambda one: np.array([one])):
        assert check.value(hold(number), hold(number)) is True
        for other in (float("inf"), -float("inf"), 1e308, 0, *(each for each in HUGE if each is not number)):
            assert check.value(hold(number), hold(other)) is False
            assert check.value(hold(other), hold(number)) is False


def nan_sets():
    return {float("nan"), 1.0, 0.1 + 0.2}, {0.3, 1.0, float("nan")}


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ({frozenset("ab"), frozenset("bc"), frozenset("a")}, {frozenset("a"), frozenset("cb"), frozenset("ba")}, True),
        ({frozenset({0.1 + 0.2}), frozenset({1})}, {frozenset({1}), frozenset({0.3})}, True),
        ({frozenset({0.1 + 0.2}), frozenset({1})}, {frozenset({1}), frozenset({0.4})}, False),
        (*nan_sets(), True),
        ({float("nan")}, {1.0}, False),
        ({1, "a", 0.1 + 0.2}, {1, "a", 0.3}, True),
        ({1, "a", None, 0.3}, {1, "a", 0.3, 0}, False),
        ({(1, 0.1 + 0.2), (1, "a")}, {(1, "a"), (1, 0.3)}, True),
        ({"Over", "under"}, {"under ", "over"}, True),
        ({0.1 + 0.2, 0.3}, {0.3}, False),
        ({k + 1e-9 for k in range(20_000)}, set(range(20_000)), True),
    ],
)
def test_sets_are_compared_without_an_order(answer, expected, right):
    assert check.value(answer, expected) is right
    assert check.value(expected, answer) is right


@given(st.sets(st.frozensets(st.integers(0, 3)) | st.floats() | st.text(max_size=2) | st.none()), st.randoms())
def test_a_set_equals_itself_in_any_order(values, shuffler):
    again = sorted(values, key=lambda _: shuffler.random())
    assert check.value(set(again), values) is True
    assert check.value({*again, (1, 2)}, values) is False


# --- nothing that an answer is stops a notebook -------------------------------------------------------------------------


def raising(*_):
    raise SystemExit("no")


class Hostile:
    """All that Python asks of it fails."""

    __eq__ = __repr__ = __str__ = __len__ = __bool__ = __iter__ = __getattr__ = __deepcopy__ = __float__ = __array__ = raising
    __hash__ = None


class Agreeable:
    """Calls itself equal to everything."""

    __hash__ = None

    def __eq__(self, other):
        return True


recursive = []
recursive.append(recursive)
ODD = {
    "hostile object": Hostile(),
    "list of hostile objects": [Hostile()],
    "dictionary of hostile objects": {"a": Hostile()},
    "hostile class": Hostile,
    "agreeable object": Agreeable(),
    "recursive list": recursive,
    "deep list": functools.reduce(lambda inner, _: [inner], range(50_000), 1),
    "ragged list": [[1], [2, 3]],
    "huge number": 10**5000,
    "huge tensor": torch.zeros(1).expand(10**13),
    "huge range": range(10**13),
    "long text": "x" * 10**6,
    "half of a character": "\ud800",
    "meta tensor": torch.empty(2, device="meta"),
    "nested tensor": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    "structured array": np.zeros(2, dtype=[("a", int)]),
    "missing": pd.NA,
    "table": pd.DataFrame({"a": [1]}),
    "generator": (number for number in [5]),
    "endless iterator": itertools.count(),
    "module": torch.nn.Linear(2, 2),
    "function": print,
    "error": ValueError("no"),
    "signalling nan": Decimal("sNaN"),
    "bytes": b"5",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("expected", [5, "five", [5], {"a": 5}, {5}, torch.tensor([5.0, 6.0]), True, 0.5j, pd.Series([5, 6])])
def test_no_answer_stops_the_notebook_or_passes_for_another(capsys, name, expected):
    odd = ODD[name]
    assert check.value(odd, expected) is False
    assert check.value(5, 6, hints={"never": "shown"}) is False
    if name != "generator" or not isinstance(expected, list):
        assert check.function(lambda _: odd, lambda _: expected, [(1,)]) is False
    assert check.function(lambda _: expected, lambda _: odd, [(1,)]) is not True
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len([line for line in lines if line.startswith("✗") and len(line) < 400])


@pytest.mark.parametrize(
    ("raises", "told"),
    [
        (lambda a: exit(), "it raised SystemExit."),
        (lambda a: raising(), "it raised SystemExit: no."),
        (lambda a: (_ for _ in ()).throw(GeneratorExit), "it raised GeneratorExit."),
        (lambda a: recurse(a), "it raised RecursionError: maximum recursion depth exceeded"),
        (lambda a: Hostile() + 1, "it raised"),
        (lambda a: {}["a\nb"], r"it raised KeyError: 'a\nb'."),
    ],
)
def test_nothing_that_an_answer_raises_stops_the_notebook(capsys, raises, told):
    assert check.function(raises, square, [(2,)]) is False
    assert told in capsys.readouterr().out


def recurse(a):
    return recurse(a)


def test_ctrl_c_stops_the_notebook():
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check.function(interrupted, square, [(2,)])


def test_an_attempt_that_exits_ends_nothing(capsys):
    assert check.attempt(exit) is None
    assert capsys.readouterr().out == "✗ it raised SystemExit.\n"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: 4, "the check calls it with 1 arguments, and it takes none"),
        (lambda a, b: 4, "the check calls it with 1 arguments, and it takes 2 (a, b)"),
        (lambda *, a: 4, "the check calls it with 1 arguments, and it takes 1 (a), a by name only."),
        (lambda **a: 4, "the check calls it with 1 arguments, and it takes 1 (a), a by name only."),
        (functools.partial(pow, 2), ""),
        (functools.partial(square, 2), "and it takes none"),
        (4, "4 is not a function"),
        ("square", "square is not a function"),
        (int, "got 2"),
        (Hostile, "the check calls it with 1 arguments"),
        (torch.nn.Identity(), "got 2"),
        (abs, "got 2"),
        (np.square, ""),
        (torch.square, "it raised TypeError"),
    ],
)
def test_whatever_is_called_is_judged_or_told(capsys, answer, told):
    assert check.function(answer, square, [(2,)]) is (not told)
    assert told in capsys.readouterr().out


def test_a_stub_that_was_never_a_function_is_not_answered_yet(capsys):
    assert check.function(None, square, [(2,)]) is None
    assert check.function(..., square, [(2,)]) is None
    assert capsys.readouterr().out == f"{check.NOT_YET}\n" * 2


def test_a_reference_that_fails_is_no_fault_of_the_answer(capsys):
    assert check.function(square, lambda a: undefined, [(2,)]) is False  # noqa: F821
    assert "the check itself failed, not your function: it raised NameError" in capsys.readouterr().out


def test_a_reference_that_exits_ends_nothing(capsys):
    assert check.function(square, lambda a: sys.exit("no"), [(2,)]) is False
    assert "the check itself failed, not your function: it raised SystemExit: no." in capsys.readouterr().out


# --- nothing that an answer does changes the lesson's data --------------------------------------------------------------


def test_a_right_result_with_an_argument_changed_in_place_is_told(capsys):
    def answer(text, x):
        return x.add_(1)

    x = torch.zeros(2)
    assert check.function(answer, lambda text, x: x + 1, [("a", x)]) is False
    assert "the result is right, but argument 2 was changed in place" in capsys.readouterr().out
    assert x.tolist() == [0, 0]


CHANGES = {
    "tensor": (torch.arange(3.0), lambda x: x.mul_(2), lambda x: x * 2),
    "tensor of huge whole numbers": (torch.tensor([2**60]), lambda x: x.add_(1), lambda x: x + 1),
    "shape": (torch.zeros(2), lambda x: x.unsqueeze_(0), lambda x: x[None]),
    "array": (np.arange(3), lambda x: np.multiply(x, 2, out=x), lambda x: x * 2),
    "list": ([3, 1, 2], lambda x: x.sort() or x, sorted),
    "nested list": ([[1], [2]], lambda x: x[0].append(5) or x, lambda x: [[*x[0], 5], *x[1:]]),
    "dictionary": ({"a": 1}, lambda x: x.update(b=2) or x, lambda x: {**x, "b": 2}),
    "set": ({1}, lambda x: x.add(2) or x, lambda x: x | {2}),
    "series": (pd.Series([1.0, 2.0]), lambda x: x.mul(1).pipe(lambda y: x.__setitem__(0, 9) or y), lambda x: x.copy()),
    "history": (torch.ones(2, requires_grad=True) * 2, lambda x: x.detach().zero_(), lambda x: torch.zeros(2)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_data_of_a_lesson_stay_as_they_are(name):
    data, in_place, reference = CHANGES[name]
    before = repr(data)
    assert check.function(in_place, reference, [(data,)]) is False
    assert repr(data) == before
    assert check.function(in_place, in_place, [(data,)]) is True  # what is asked for is no mistake
    assert check.function(reference, reference, [(data,)]) is True
    assert check.function(reference, in_place, [(data,)]) is True
    assert repr(data) == before


class Box:
    def __init__(self):
        self.numbers, self.rest = torch.zeros(2), {"inner": [1]}


OPAQUE = {
    "module": (lambda: torch.nn.Linear(2, 2), lambda x: x.bias.data.add_(1)),
    "buffer": (lambda: torch.nn.BatchNorm1d(2), lambda x: x(torch.rand(4, 2))),
    "module in a list": (lambda: [torch.nn.Linear(2, 2)], lambda x: x[0].bias.data.add_(1)),
    "object": (Box, lambda x: x.numbers.add_(1)),
    "object in an object": (Box, lambda x: x.rest["inner"].append(2)),
    "new attribute": (Box, lambda x: setattr(x, "new", 1)),
    "optimizer": (lambda: torch.optim.SGD([torch.ones(1)], lr=1.0), lambda x: x.param_groups[0].update(lr=2.0)),
    "generator": (torch.Generator, lambda x: torch.rand(3, generator=x)),
    "NumPy's generator": (lambda: np.random.default_rng(0), lambda x: x.random(3)),
    "NumPy's old generator": (lambda: np.random.RandomState(0), lambda x: x.rand(3)),
    "Python's generator": (lambda: random.Random(0), lambda x: x.random()),
    "generator in a loader": (
        lambda: TensorLoader(torch.arange(4), torch.arange(4), 2, shuffle=True, generator=torch.Generator()),
        list,
    ),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_a_change_is_seen_where_equality_does_not_tell(capsys, name):
    make, change = OPAQUE[name]
    changes, leaves = (lambda x: (change(x), 1)[1]), (lambda x: 1)
    assert check.function(changes, leaves, [(make(),)]) is False
    assert "the result is right, but" in capsys.readouterr().out
    assert check.function(leaves, leaves, [(make(),)]) is True
    assert check.function(leaves, changes, [(make(),)]) is True
    assert check.function(changes, changes, [(make(),)]) is True


def test_a_generator_that_is_drawn_from_too_often_is_told(capsys):
    def once(generator):
        return torch.rand(2, generator=generator)

    def twice(generator):
        return once(generator), once(generator)

    assert check.function(lambda g: twice(g)[0], once, [(torch.Generator(),)]) is False
    assert "generator 1 is drawn from more or less often than asked" in capsys.readouterr().out
    assert check.function(once, once, [(torch.Generator(),)]) is True


def test_objects_that_hold_each_other_are_no_trouble():
    first, second = Box(), Box()
    first.other, second.other = [second, second], [first, first]
    assert check.function(lambda box: 1, lambda box: 1, [(first,)]) is True
    twice = [1]
    twice += [twice, twice]
    assert check.function(lambda a: a[0], lambda a: a[1][0], [(twice,)]) is True


def test_a_wrong_answer_in_place_does_not_reach_into_the_view_that_is_expected():
    x = torch.zeros(4)
    assert check.function(lambda x: x.add_(5)[:2], lambda x: x[:2], [(x,)]) is False
    expected = [1, 2]
    assert check.function(lambda: expected.clear() or [], lambda: expected, [()]) is False


def test_a_model_an_optimizer_and_their_link_are_copied_together():
    def step(model, optimizer):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        return model.weight

    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    case = (model, torch.optim.SGD(model.parameters(), lr=0.5))
    assert check.function(step, step, [case, case]) is True
    assert check.function(lambda model, optimizer: model.weight, step, [case]) is False
    assert torch.equal(model.weight, before)
    assert model.weight.grad is None


DRAWS = {
    "torch": lambda _: torch.rand(3),
    "NumPy": lambda _: np.random.rand(3),  # noqa: NPY002 - beginners write so
    "Python": lambda _: [random.random() for _ in range(3)],
    "generator of torch": lambda generators: torch.rand(3, generator=generators[0]),
    "generator of NumPy": lambda generators: generators[1].random(3),
    "loader": lambda generators: [x.tolist() for x, _ in generators[2]],
    "iterator": lambda generators: list(generators[3]),
}


@pytest.mark.parametrize("name", DRAWS)
def test_both_draw_the_same_and_the_draws_of_the_lesson_stay(name):
    draw, x = DRAWS[name], torch.arange(20)
    shuffled = TensorLoader(x, x, 4, shuffle=True, generator=torch.Generator().manual_seed(1))
    generators = (torch.Generator().manual_seed(0), np.random.default_rng(0), shuffled, iter([1, 2]))

    def states():
        of_numpy = np.random.get_state()[1]  # noqa: NPY002
        return torch.get_rng_state().tolist(), generators[0].get_state().tolist(), random.getstate(), of_numpy.tolist()

    before = states()
    assert check.function(draw, draw, [(generators,), (generators,)]) is True
    assert states() == before


@pytest.mark.parametrize("once", [lambda: (n for n in (1, 2)), lambda: map(abs, (1, -2)), lambda: iter((1, 2))])
def test_an_argument_that_can_be_read_once_is_read_by_both(once):
    assert check.function(sum, sum, [(once(),)]) is True
    assert check.function(lambda numbers: 0, sum, [(once(),)]) is False
    assert check.function(lambda a, b: sum(b), lambda a, b: sum(b), [([1], once())]) is True
    for hold, take in ((lambda one: [1, one], lambda a: a[1]), (lambda one: {"a": (one,)}, lambda a: a["a"][0])):
        total = lambda a, take=take: sum(take(a))  # noqa: E731
        assert check.function(total, total, [(hold(once()),)]) is True
        assert check.function(lambda a: 0, total, [(hold(once()),)]) is False


def test_what_cannot_be_copied_is_given_as_it_is(tmp_path):
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    with (tmp_path / "a.txt").open(encoding="utf-8") as file:
        case = ([torch.ones(2, requires_grad=True) * 2, file], {"file": file}, sys)
        kept = lambda parts, files, module: (parts[0], parts[1] is file, files["file"] is file, module is sys)  # noqa: E731
        assert check.function(kept, kept, [case]) is True


def test_iterators_are_compared_by_their_values():
    numbers = lambda end: (n for n in range(end))  # noqa: E731
    assert check.function(numbers, range, [(3,)]) is True
    assert check.function(numbers, numbers, [(3,)]) is True
    assert check.function(lambda end: numbers(end + 1), range, [(3,)]) is False
    assert check.function(lambda end: numbers(end - 1), range, [(3,)]) is False
    assert check.function(lambda end: itertools.count(), range, [(3,)]) is False
    assert check.function(lambda _: itertools.count(), lambda _: itertools.count(), [(3,)]) is True
    assert check.function(lambda _: itertools.count(1), lambda _: itertools.count(), [(3,)]) is False


def test_an_error_in_the_middle_of_a_generator_is_told(capsys):
    def untouched(end):
        yield 1
        raise NotImplementedError("your code")

    assert check.function(lambda _: (1 / n for n in (1, 0)), lambda _: [1, 2], [(3,)]) is False
    assert "it raised ZeroDivisionError" in capsys.readouterr().out
    assert check.function(untouched, lambda _: [1, 2], [(3,)]) is None
    assert check.function(range, lambda end: (1 / n for n in range(end)), [(3,)]) is False
    assert "the check itself failed" in capsys.readouterr().out


# --- feedback says what is so -------------------------------------------------------------------------------------------


def bare(a):
    """A docstring is no answer."""


def dots(a): ...


def named(a):
    result = None  # your code
    return result


def calls_a_stub(a):
    b = bare(a)
    return None if b is None else b + 1


def returns_dots(a):
    return ...


def named_twice(a):
    b = c = None  # noqa: F841
    return b


def log(*_):
    pass


def logs_and_asks(a):
    log(a, square(a), log())
    return None if bare(a) is None else a


class Methods:
    def bare(self, a):
        pass

    def __call__(self, a):
        return None


class Layer(torch.nn.Module):
    def forward(self, a):
        return None  # your code


@pytest.mark.parametrize(
    "untouched",
    [
        *(bare, dots, named, lambda a: None, Methods().bare, calls_a_stub, functools.partial(calls_a_stub)),
        *(functools.cache(bare), torch.no_grad()(bare), torch.no_grad()(Layer().forward)),
        *(returns_dots, named_twice, lambda a: ..., Methods(), Layer(), logs_and_asks),
        *(functools.partial(lambda f, a: f(a), bare), lambda a: calls_a_stub(a), lambda a: stub(a)),
    ],
)
def test_untouched_stubs_are_not_answered_yet(capsys, untouched):
    assert check.function(untouched, square, [(2,)]) is None
    assert capsys.readouterr().out == f"{check.NOT_YET}\n"


def test_a_stub_inside_another_function_is_found(capsys):
    def inner(a):
        return None

    assert check.function(lambda a: inner(a), square, [(2,)]) is None
    assert capsys.readouterr().out == f"{check.NOT_YET}\n"


def forgets(a):
    squared = a * a  # noqa: F841 - that it is not returned is the mistake


def forgets_a_constant(a):
    answer = 4  # noqa: F841


def forgets_and_logs(a):
    log(
        a,
        square(a),
    )
    squared = a * a
    log(squared)


def prints(a):
    print(a * a, end=" ")


@pytest.mark.parametrize(
    "forgetful",
    [
        forgets,
        forgets_a_constant,
        forgets_and_logs,
        lambda a: forgets_and_logs(a),
        prints,
        functools.partial(lambda f, a: f(a), forgets),
        lambda a: forgets(a),
    ],
)
def test_a_forgotten_return_is_said(capsys, forgetful):
    assert check.function(forgetful, square, [(2,)]) is False
    assert "got None, expected 4. Is there a `return` line?" in capsys.readouterr().out


def test_an_operation_that_a_library_lacks_is_an_error_and_no_stub(capsys):
    answer = lambda a: torch.empty(1, device="meta").cpu()  # noqa: E731
    assert check.function(answer, square, [(2,)]) is False
    assert "it raised NotImplementedError" in capsys.readouterr().out
    with pytest.raises(NotImplementedError):
        check.attempt(answer, 2)
    with pytest.raises(NotImplementedError):
        check.attempt(torch.nn.Module(), 2)


@pytest.mark.parametrize(
    ("answer", "expected", "told"),
    [
        (float("nan"), 0.5, "nan is not it. nan means that it is not a number"),
        (torch.tensor(float("nan")), 0.5, "nan is not it. nan means that it is not a number"),
        (torch.full((3, 4), float("nan")), torch.zeros(3, 4), "12 of its values are nan"),
        ([1.0, np.float64("nan")], [1, 2], "1 of its values are nan"),
        ([float("nan"), float("nan")], [float("nan"), 1], "2 of its values are nan"),
        (torch.tensor(3), 2, "3 is not it. It is too large."),
        (np.float64(1), 2, "1.0 is not it. It is too small."),
        (10**400, 2, "… is not it. It is too large."),
        (np.bool_(True), 2, "True is not it."),
        (map(abs, [1]), [1], "as in list(…)"),
    ],
)
def test_what_is_wrong_is_named(capsys, answer, expected, told):
    assert check.value(answer, expected) is False
    line = capsys.readouterr().out.rstrip()
    assert told in line
    assert line.endswith(told) or "nan" in told or "list" in told


SPEAKS = """
from course_utils import check, record
check.value(1, 1)
check.value("검", "val", hints={"검": "≥ … → 검 😀"})
check.value(None, 1)
check.function(lambda a: "가≤\\ud800", lambda a: a, [("…",)])
record.Claims("01").add("gain", "gain ≥ 0", {0: 1}, each_at_least=0)
"""


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "cp1252"])
def test_words_reach_a_stream_of_any_encoding(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COURSE_PROFILE": "cpu"}
    done = subprocess.run([sys.executable, "-c", SPEAKS], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    right, hinted, not_yet, wrong, claim = done.stdout.decode(encoding).splitlines()
    assert right.endswith(" right.")
    assert ("검" in hinted) == (encoding == "cp949")
    assert "not answered yet" in not_yet
    assert "\\ud800" in wrong
    assert ">= 0" in claim or "≥ 0" in claim
