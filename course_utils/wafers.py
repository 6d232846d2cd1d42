"""Synthetic wafer maps: which dies of a round wafer fail, in six single patterns and their legal pairs. Used in lesson 07.

A stand-in for measured maps (such as MixedWM38: Wang et al., *Deformable Convolutional Networks for Efficient Mixed-Type Wafer
Defect Pattern Recognition*, 2020), whose six patterns and thirteen pairs it copies: nothing is downloaded, and
there is as much of it as a lesson needs.

How a map is made: each pattern marks a region of the wafer, with place, size and direction drawn for each map. A die in the
region fails with a probability drawn for the map from `DENSITY`, any die fails by chance with one drawn from 0 to ``noise``.
In a composite, a die fails if either pattern or chance makes it fail, as on a real wafer. ``noise`` is thus the difficulty: at
0 only patterns fail; at the default of 0.1, up to one die in ten fails for no reason, and a short scratch begins to drown.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils import valid
from course_utils.data import Split

PATTERNS = ("centre", "donut", "edge-ring", "edge-loc", "loc", "scratch")

# All 15 pairs but two. A centre fills the hole of a donut, and a ring covers a part of the edge: what is left of the pair
# looks like one of its patterns alone, so that not even an engineer could name both.
PAIRS = tuple(
    (first, second) for second in range(len(PATTERNS)) for first in range(second) if (first, second) not in {(0, 1), (2, 3)}
)

DENSITY = (0.5, 0.9)
NOISE = 0.1
_CHUNK = 256  # maps at a time: the fields of so many stay in a processor's cache


class Composites(NamedTuple):
    """Maps of two patterns at once.

    ``x``: float32 ``(N, 1, size, size)``, as in `singles`.
    ``pairs``: the two patterns as positions in `PATTERNS`, the smaller first, int64 ``(N, 2)``.
    """

    x: Tensor
    pairs: Tensor


def singles(n_per_class: int, size: int = 32, *, generator: torch.Generator, noise: float = NOISE) -> Split:
    """Maps with one pattern each, class by class.

    Args:
        n_per_class: maps of each of the six `PATTERNS`, at least 1.
        size: height and width in dies, at least 16: on fewer, scratches cannot be told from chance.
        generator: CPU generator; the same state gives the same maps.
        noise: largest probability of a die to fail by chance, in 0..1; see the top of this file.

    Returns:
        ``x``: float32 ``(6 * n_per_class, 1, size, size)``, 1 where a die fails, 0 where it works or there is no wafer;
        ``y``: positions in `PATTERNS`, int64 ``(6 * n_per_class,)``. Shuffle before use.

    Raises:
        ValueError: a count, size or noise outside its range, or a generator that is not on the CPU.

    >>> x, y = singles(2, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.tolist()
    (torch.Size([12, 1, 32, 32]), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    """
    x = _maps([(pattern,) for pattern in range(len(PATTERNS))], n_per_class, "n_per_class", size, generator, noise)
    return Split(x, torch.arange(len(PATTERNS)).repeat_interleave(int(n_per_class)))


def composites(n_per_pair: int, size: int = 32, *, generator: torch.Generator, noise: float = NOISE) -> Composites:
    """Maps with two patterns each, pair by pair.

    Args:
        n_per_pair: maps of each of the thirteen `PAIRS`, at least 1.
        size, generator, noise: as in `singles`, and what raises.

    >>> x, pairs = composites(1, generator=torch.Generator().manual_seed(0))
    >>> x.shape, [PATTERNS[pattern] for pattern in pairs[0]]
    (torch.Size([13, 1, 32, 32]), ['centre', 'edge-ring'])
    """
    x = _maps(PAIRS, n_per_pair, "n_per_pair", size, generator, noise)
    return Composites(x, torch.tensor(PAIRS).repeat_interleave(int(n_per_pair), dim=0))


def wafer(size: int = 32) -> Tensor:
    """Where a square grid of dies lies on the round wafer: bool ``(size, size)``, for a whole ``size`` of at least 1."""
    return _grid(valid.whole_number(size, "size", 1))[2] <= 1


def _maps(kinds, count: int, name: str, size: int, generator: torch.Generator, noise: float) -> Tensor:
    count = valid.whole_number(count, name, 1)
    size = valid.whole_number(size, "size", 16)
    noise = valid.share(noise, "noise", "a probability")
    valid.cpu_generator(generator)
    x, y, radius = _grid(size)
    on_wafer = radius <= 1
    maps = torch.empty(len(kinds) * count, 1, size, size)
    for kind, of_a_kind in zip(kinds, maps.split(count), strict=True):
        for chunk in of_a_kind.split(_CHUNK):
            draw = _drawing(len(chunk), generator)
            works = (1 - draw(0, noise)).expand(len(chunk), size, size)
            for pattern in kind:
                region = _REGIONS[pattern](x, y, radius, draw)
                works = torch.where(region, works * (1 - draw(*DENSITY)), works)
            fails = torch.rand(works.shape, generator=generator) > works
            chunk[:, 0] = fails & on_wafer
    return maps


def _grid(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates of dies from the wafer's centre, to the right and down, and their distance from it, in wafer radii."""
    place = (torch.arange(size) + 0.5) * (2 / size) - 1
    y, x = place[:, None], place[None, :]
    return x, y, (x.square() + y.square()).sqrt()


Draw = Callable[[float, float], Tensor]


def _drawing(count: int, generator: torch.Generator) -> Draw:
    """Uniform numbers between two bounds, one for each map, ready to be broadcast over its dies."""
    return lambda low, high: torch.rand(count, 1, 1, generator=generator).mul_(high - low).add_(low)


def _place(draw: Draw, low: float, high: float) -> tuple[Tensor, Tensor]:
    angle, distance = draw(0, 2 * torch.pi), draw(low, high)
    return distance * angle.cos(), distance * angle.sin()


def _blob(x: Tensor, y: Tensor, draw: Draw, distance: tuple[float, float], radius: tuple[float, float]) -> Tensor:
    """An ellipse of any direction whose middle lies at that distance from the wafer's."""
    (dx, dy), angle = _place(draw, *distance), draw(0, torch.pi)
    x, y = x - dx, y - dy
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    return (along / draw(*radius)).square() + (across / draw(*radius)).square() < 1


def _centre(x: Tensor, y: Tensor, radius: Tensor, draw: Draw) -> Tensor:
    return _blob(x, y, draw, (0, 0.1), (0.2, 0.4))


def _donut(x: Tensor, y: Tensor, radius: Tensor, draw: Draw) -> Tensor:
    dx, dy = _place(draw, 0, 0.1)
    distance, hole = ((x - dx).square() + (y - dy).square()).sqrt(), draw(0.25, 0.4)
    return (distance > hole) & (distance < hole + draw(0.15, 0.25))


def _edge_ring(x: Tensor, y: Tensor, radius: Tensor, draw: Draw) -> Tensor:
    return radius > draw(0.82, 0.93)


def _edge_loc(x: Tensor, y: Tensor, radius: Tensor, draw: Draw) -> Tensor:
    angle, half_width = draw(0, 2 * torch.pi), draw(0.2, 0.6)
    towards = x * angle.cos() + y * angle.sin()
    return (radius > draw(0.72, 0.88)) & (towards > radius * half_width.cos())


def _loc(x: Tensor, y: Tensor, radius: Tensor, draw: Draw) -> Tensor:
    return _blob(x, y, draw, (0.4, 0.65), (0.12, 0.22))


def _scratch(x: Tensor, y: Tensor, radius: Tensor, draw: Draw) -> Tensor:
    (dx, dy), angle = _place(draw, 0, 0.5), draw(0, 2 * torch.pi)
    x, y = x - dx, y - dy
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    bent = across - draw(-0.5, 0.5) * along.square()
    return (bent.abs() < 0.045) & (along.abs() < draw(0.35, 0.7))


_REGIONS = (_centre, _donut, _edge_ring, _edge_loc, _loc, _scratch)  # in the order of PATTERNS
