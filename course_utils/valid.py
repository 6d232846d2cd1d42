"""What arguments must be: class indices and whole numbers. One place, so that every function takes and refuses the same."""

import operator

import torch


def class_indices(
    labels: torch.Tensor, num_classes: int | None = None, what: str = "labels", shape: str = "(N,)"
) -> torch.Tensor:
    """Class indices as int64, which torch's losses and indexing want and in which sums cannot overflow.

    Args:
        labels: integers of any width and sign, or booleans, which name classes 0 and 1; any shape.
        num_classes: number of classes ``K``; with it, values are checked where they lie on the CPU. Reading them back
            would stall a GPU: there torch's own device assertion, or `train.fit` at the end of the epoch, reports them.
        what: word for the labels in messages.
        shape: what the caller wants, in words for messages; as many dimensions as it names are asked for.

    Returns:
        int64 tensor of the same shape; ``labels`` itself if it is one.

    Raises:
        ValueError: floating point or complex numbers, another number of dimensions, or a class outside ``0 .. K - 1``.

    >>> class_indices(torch.tensor([2, 0], dtype=torch.uint8), 3)
    tensor([2, 0])
    """
    if (
        not isinstance(labels, torch.Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.ndim != _dimensions(shape)
    ):
        found = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ValueError(f"{what} are {found}; use class indices, integers of shape {shape}.")
    labels = labels.long()
    if num_classes is not None and labels.device.type == "cpu" and labels.numel():
        low, high = (int(value) for value in labels.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"{what} go from {low} to {high}; {num_classes} classes are numbered 0 to {num_classes - 1}.")
    return labels


def whole_number(value: object, name: str, low: int, high: int | None = None) -> int:
    """A whole number as Python's int: NumPy's and 0-dimensional tensors' integers count, 2.0 and True do not.

    Raises:
        ValueError: anything else, or a number outside ``low .. high``.

    >>> whole_number(torch.tensor(3), "seed", 0)
    3
    """
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, RuntimeError):  # torch's word for a tensor of floats, or of several numbers
        number = None
    if number is None or number < low or (high is not None and number > high):
        raise ValueError(f"{name} is {value!r}; it must be a whole number {bounds}.")
    return number


def _dimensions(shape: str) -> int:
    """Of "(N,)" one, of "(M, N)" two."""
    return len([name for name in shape.strip("()").split(",") if name.strip()])
