"""Running out of memory says what to change."""

import pytest
import torch

from constitute.errors import UsageError
from constitute.train.common.memory import memory_advice


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "out of GPU memory; lower this; `constitute train plan` names settings that fit a GPU",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
            "out of memory; lower this",
        ),
    ],
)
def test_it_names_what_to_lower(problem, says):
    with pytest.raises(UsageError) as told, memory_advice("this"):
        raise problem
    assert str(told.value) == says


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), memory_advice("this"):
        raise RuntimeError("shape mismatch")
