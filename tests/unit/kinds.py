"""What the torch at hand can do with integers."""

import pytest
import torch


def skip_unless_picked(kind: torch.dtype) -> None:
    """Skip a test of labels of which this torch cannot pick some: torch 2.5 to 2.7 have wide unsigned types only in part."""
    try:
        torch.zeros(1, dtype=kind).index_select(0, torch.tensor([0]))
    except RuntimeError:
        pytest.skip(f"torch {torch.__version__} cannot pick from tensors of {kind}")
