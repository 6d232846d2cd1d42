"""Which submitted cell stands for which released one, whatever an editor has lost.

What is certain comes first: names and ids, then cells that are as released, then answers known by what they define. Each pair
that is found is taken out, and holds the place of the rest, which is aligned in between. So a given cell never runs twice,
and a student's own cell is not taken for an answer while a better one is there.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from course_grade.assignment import Assignment, plain
from course_grade.released import DEFINES, Place, names_in, places_of
from course_grade.submission import Cell

A = TypeVar("A")
B = TypeVar("B")


@dataclass
class Match:
    """What `match` found."""

    cells: dict[int, Cell] = field(default_factory=dict)  # by the place in the release
    together: dict[int, int] = field(default_factory=dict)  # places of answers that stand in the cell of an earlier one
    sources: dict[Cell, str] = field(default_factory=dict)  # of cells from which merged given code was taken out
    dropped: set[Cell] = field(default_factory=set)  # copies of what was given
    notes: list[str] = field(default_factory=list)


def match(assignment: Assignment, submitted: list[Cell]) -> Match:
    """Find for each released cell the submitted one that stands for it. Raises nothing, whatever the cells hold."""
    return _Matching(assignment, submitted).run()


class _Matching:
    """The steps of `match`, from the certain to the likely."""

    def __init__(self, assignment: Assignment, submitted: list[Cell]) -> None:
        self.places = places_of(assignment)
        self.given = {place.text for place in self.places if place.text and not place.answer}
        self.submitted = submitted
        self.position = {cell: number for number, cell in enumerate(submitted)}
        self.text = {cell: plain(cell.source) for cell in submitted}
        self.defined = {cell: names_in(cell.source) for cell in submitted}
        self.words = {cell: Counter(re.findall(r"\w+", self.text[cell])) for cell in submitted}
        self.found = Match()
        self.taken = self.found.cells
        self.spent: set[Cell] = set()  # copies that do not count

    def run(self) -> Match:
        self._by_name()
        certain = set(self.taken)
        self._as_released(place for place in self.places if not place.answer)
        self._by_definition()
        self._as_released(place for place in self.places if place.answer)
        self._merged()
        self._in_between()
        self._edited_and_moved()
        self._left_over(certain)
        self._clean()
        late = self.taken.keys() - certain
        found = [place.name for place in self.places if place.name and place.answer and place.number in late]
        if found:
            self.found.notes.append(f"metadata was lost, found by place: {', '.join(found)}")
        return self.found

    def _free(self) -> list[Cell]:
        """Cells that stand for nothing yet and hold something."""
        used = self.spent.union(self.taken.values())
        return [cell for cell in self.submitted if cell not in used and self.text[cell]]

    def _absent(self) -> list[Place]:
        return [place for place in self.places if place.number not in self.taken and place.number not in self.found.together]

    # --- certain -------------------------------------------------------------------------------------------------------------

    def _by_name(self) -> None:
        """By grade_id and by cell id. Of copies the last counts, as when a notebook runs, but one that was filled in."""
        names = {place.name: place for place in self.places if place.name}
        ids = {place.id: place for place in self.places}
        claims: dict[Place, list[Cell]] = {}
        for cell in self.submitted:
            if cell.grade_id in names:
                claims.setdefault(names[cell.grade_id], []).append(cell)
        for cell in self.submitted:
            place = ids.get(cell.id)
            if place and cell.grade_id not in names and (place not in claims or claims[place][0].grade_id is None):
                claims.setdefault(place, []).append(cell)
        copies = 0
        for place, cells in claims.items():
            best = max(cells, key=lambda cell: (self._fits(place, cell), self._changed(place, cell), self.position[cell]))
            self.taken[place.number] = best
            # A copy from which another answer was made stays on offer.
            apart = {cell for cell in cells if place.defined and self.defined[cell] and not self._fits(place, cell)}
            others = [cell for cell in cells if cell is not best and cell not in apart]
            self.spent.update(others)
            copies += len(others)
        if copies:
            self.found.notes.append(f"{copies} more copies of given cells: the last of each that was filled in counts")

    def _changed(self, place: Place, cell: Cell) -> bool:
        return self.text[cell] != place.text

    def _fits(self, place: Place, cell: Cell) -> float:
        """Share of what an answer has to define that a cell defines."""
        return len(place.defined & self.defined[cell]) / len(place.defined) if place.defined else 0

    def _at_margin(self, place: Place, cell: Cell) -> int:
        """How much of what an answer has to define a cell defines at the margin, so certainly."""
        return len(place.defined.intersection(DEFINES.findall(cell.source)))

    def _as_released(self, places: Iterable[Place]) -> None:
        """Cells that are as they were handed out, if their text occurs once in the release."""
        occurs = Counter(place.text for place in self.places)
        absent = self._absent()
        for place in places:
            if place in absent and place.text and occurs[place.text] == 1:
                same = [cell for cell in self._free() if self.text[cell] == place.text]
                if same:
                    self.taken[place.number] = min(same, key=lambda cell: not self._between(place, cell))

    def _between(self, place: Place, cell: Cell) -> bool:
        """Whether a cell stands between those that stand for the places before and after."""
        before = max((number for number in self.taken if number < place.number), default=None)
        after = min((number for number in self.taken if number > place.number), default=None)
        first = -1 if before is None else self.position[self.taken[before]]
        end = len(self.submitted) if after is None else self.position[self.taken[after]]
        return first < self.position[cell] < end

    def _by_definition(self) -> None:
        """Answers by the functions and classes that they have to define: the last one, as when a notebook runs.

        An answer may also stand in a new cell, while the one that was handed out for it is still as it was.
        """
        given = {place.text for place in self.places}
        for place in self.places:
            now = self.taken.get(place.number)
            if not place.defined or (now and self._changed(place, now) and self._fits(place, now)):
                continue
            least = 1 if now else 0
            fitting = [
                cell
                for cell in self._free()
                if self.text[cell] not in given and self._fits(place, cell) and self._fits(place, cell) >= least
            ]
            if fitting:
                order = {
                    cell: (
                        self._fits(place, cell),
                        self._at_margin(place, cell),
                        cell.cell_type == "code",
                        self._between(place, cell),
                        self.position[cell],
                    )
                    for cell in fitting
                }
                self.taken[place.number] = max(fitting, key=order.__getitem__)

    def _merged(self) -> None:
        """Answers that were merged with a given cell, or with another answer."""
        for place in self._absent():
            if not place.defined:
                continue
            for number, cell in sorted(self.taken.items()):
                other = self.places[number]
                if not self._changed(other, cell) or self._fits(place, cell) < 1:
                    continue
                if not other.answer:
                    del self.taken[number]
                    self.taken[place.number] = cell
                elif number < place.number:
                    self.found.together[place.number] = number
                else:
                    self.taken[place.number] = self.taken.pop(number)
                    self.found.together[number] = place.number
                break

    # --- likely --------------------------------------------------------------------------------------------------------------

    def _alike(self, place: Place, cell: Cell) -> float:
        """Share of the words that two cells have in common, 0 to 1; takes time in proportion to their length."""
        wanted = Counter(re.findall(r"\w+", place.text))
        both = wanted.total() + self.words[cell].total()
        return 2 * (wanted & self.words[cell]).total() / both if both else 0

    def _likely(self, place: Place, cell: Cell) -> float:
        """How likely a cell stands for a place; 0 if it does not."""
        alike = self._alike(place, cell)
        same_type = (place.cell_type == "code") == (cell.cell_type == "code")
        if not place.answer:
            same_names = place.names and place.names == self.defined[cell]
            return alike if alike >= (0.3 if same_type and same_names else 0.6 if same_type else 0.8) else 0
        if place.defined and not place.by_hand:
            return 0  # an answer that tests call is known by what it defines
        if self.text[cell] in self.given:
            return 0  # a copy of what was given answers nothing, however long it is
        other = any(other.defined & self.defined[cell] for other in self.places if other is not place)
        length = len(self.text[cell])
        return 0 if other else (0.3 if same_type else 0.05) * (1 + alike + length / (length + 200))

    def _in_between(self) -> None:
        """What is still open, in its order, between cells that are known."""
        known = in_order([(number, self.position[cell]) for number, cell in self.taken.items()])
        bounds = [(-1, -1), *known, (len(self.places), len(self.submitted))]
        free = self._free()
        absent = self._absent()
        for (before, first), (after, end) in pairwise(bounds):
            places = [place for place in absent if before < place.number < after]
            cells = [cell for cell in free if first < self.position[cell] < end]
            for place, cell in align(places, cells, self._likely):
                self.taken[place.number] = cell

    def _edited_and_moved(self) -> None:
        """Given cells that were moved and lightly edited."""
        for place in self._absent():
            if not place.answer and (free := self._free()):
                nearest = max(free, key=lambda cell: self._alike(place, cell))
                if self._alike(place, nearest) >= 0.8:
                    self.taken[place.number] = nearest

    def _left_over(self, certain: set[int]) -> None:
        """Answers that a person grades, where names are lost and cells were moved: the likeliest is shown."""
        if 2 * len(certain) > len(self.places):
            return
        for place in self._absent():
            likely = {cell: self._likely(place, cell) for cell in self._free() if place.by_hand}
            near = {cell for cell in likely if self._beside(place, cell)}
            if likely and max(likely.values()):
                self.taken[place.number] = max(likely, key=lambda cell: (likely[cell] > 0, cell in near, likely[cell]))

    def _beside(self, place: Place, cell: Cell) -> bool:
        """Whether a cell stands below the one for the place before, or above the one for the place after."""
        neighbours = ((place.number - 1, 1), (place.number + 1, -1))
        return any(
            number in self.taken and self.position[cell] - self.position[self.taken[number]] == step
            for number, step in neighbours
        )

    # --- the rest ------------------------------------------------------------------------------------------------------------

    def _clean(self) -> None:
        """Copies of what was given are dropped, and given code is taken out of cells into which it was merged."""
        given = {place.text for place in self.places if place.text}
        absent = [place.text for place in self._absent() if place.cell_type == "code" and not place.answer and place.text]
        standing = set(self.taken.values())
        dropped = [cell for cell in self.submitted if cell not in standing and self.text[cell] in given]
        self.found.dropped.update(dropped)
        if copies := sum(cell not in self.spent for cell in dropped):
            self.found.notes.append(f"{copies} cells are copies of given cells and are left out")
        for cell in self.submitted:
            rest = f"\n{self.text[cell]}\n"
            for text in absent:
                rest = rest.replace(f"\n{text}\n", "\n")
            if plain(rest) != self.text[cell]:
                self.found.sources[cell] = plain(rest)


# --- two sequences side by side ----------------------------------------------------------------------------------------------


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
