"""What hidden tests call inside a kernel: compute a value for inputs drawn afresh, and send it out to be compared.

Nothing here knows a right answer, so nothing here has to be protected: whoever sends other values than the solution's is wrong.
It needs nothing but IPython, since the sandbox shows a kernel this one file of the package.
"""

import json
import os
from collections.abc import Callable

from IPython.display import display

MIME = "application/vnd.course-grade+json"

seed = int(os.environ.get("COURSE_GRADE_SEED", "0"))


def emit(name: str, compute: Callable[[], object]) -> None:
    """Send the value of ``compute()`` under a name, or the error that it raised.

    Each call is one check: a check that raises does not stop the ones after it.

    Args:
        name: says what is checked; students read it in their feedback. Different from the other names of the same cell.
        compute: gives tensors, arrays, numbers, strings, booleans or ``None``, or lists, tuples and dicts of them.

    >>> emit("sum", lambda: 1 + 1)
    {"name": "sum", "value": 2}
    """
    try:
        message = {"name": name, "value": _plain(compute())}
    except Exception as error:
        message = {"name": name, "error": f"{type(error).__name__}: {error}"[:300]}
    text = json.dumps(message)
    display({MIME: message, "text/plain": text}, raw=True)


def _plain(value: object) -> object:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return {"shape": list(value.shape), "dtype": str(value.dtype), "values": value.reshape(-1).tolist()}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be compared; give tensors, numbers, strings, or lists and dicts of them")
