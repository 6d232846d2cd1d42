import numpy as np
import pytest
import torch

from course_utils import check


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
