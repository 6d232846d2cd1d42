"""Label smoothing in its two conventions, as a batch transform. Built in lesson 08.

Torch smooths within the loss (``F.cross_entropy(..., label_smoothing=alpha)``), in the first convention; as a batch transform
it smooths training targets only, so that no loss on validation or test data is ever smoothed by accident.
"""

from typing import Literal

from torch import Tensor

from course_utils import valid
from course_utils.data import BatchTransform
from course_utils.techniques.targets import as_probabilities

Convention = Literal["all", "others"]


def label_smoothing(alpha: float, num_classes: int, convention: Convention = "all") -> BatchTransform:
    """Give the share ``alpha`` of each target away to the classes.

    Szegedy et al., *Rethinking the Inception Architecture*, 2016, section 7. Lesson 08.

    Args:
        alpha: in 0..1.
        num_classes: number of classes ``K``, at least 2.
        convention: ``"all"``: ``(1 - alpha) y + alpha / K``, to all classes alike, as torch does. ``"others"``:
            ``(1 - alpha) y + alpha / (K - 1) (1 - y)``, to the other classes only.

    Returns:
        Transform that leaves inputs alone and turns class indices or probabilities into ``(B, K)``. With ``"all"``,
        cross-entropy with these targets equals ``F.cross_entropy(logits, y, label_smoothing=alpha)``.

    Raises:
        ValueError: ``alpha``, ``num_classes`` or ``convention`` is none of those; targets as in `as_probabilities`.
    """
    alpha = valid.share(alpha, "alpha", "the share that is given away")
    num_classes = valid.whole_number(num_classes, "num_classes", 2)
    if convention not in ("all", "others"):
        raise ValueError(f"convention is {convention!r}; it must be 'all' or 'others'.")

    def smoothed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        p = as_probabilities(y, num_classes)
        if convention == "all":
            return x, p * (1 - alpha) + alpha / num_classes
        return x, p * (1 - alpha) + (1 - p) * (alpha / (num_classes - 1))

    return smoothed
