"""Two sequences side by side: the pairs that are in the same order in both."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most of some pairs of numbers of which both the first and the second ones rise.

    >>> in_order([(0, 5), (1, 1), (2, 2), (3, 9)])
    [(1, 1), (2, 2), (3, 9)]
    """
    ends: list[int] = []  # the smallest second number at which a chain of each length ends
    chains: list[list[tuple[int, int]]] = []
    for first, second in sorted(pairs):
        length = bisect_left(ends, second)
        chain = [*(chains[length - 1] if length else []), (first, second)]
        ends[length : length + 1] = [second]
        chains[length : length + 1] = [chain]
    return chains[-1] if chains else []


def align(left: Sequence[A], right: Sequence[B], likely: Callable[[A, B], float]) -> list[tuple[A, B]]:
    """Pairs in order whose likelihoods have the largest sum; two that have 0 are no pair.

    >>> align("abc", "xbc", lambda one, other: float(one == other))
    [('b', 'b'), ('c', 'c')]
    """
    best: list[tuple[float, tuple]] = [(0, ())] * (len(right) + 1)
    for one in left:
        row = [best[0]]
        for number, other in enumerate(right):
            options = [best[number + 1], row[number]]
            if weight := likely(one, other):
                total, pairs = best[number]
                options.append((total + weight, (pairs, (one, other))))
            row.append(max(options, key=lambda option: option[0]))
        best = row
    found, pairs = [], best[-1][1]
    while pairs:
        pairs, pair = pairs
        found.append(pair)
    return found[::-1]
