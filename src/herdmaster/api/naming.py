"""The names by which workers find functions."""

from __future__ import annotations

import sys
from collections.abc import Callable

from herdmaster.errors import ConfigurationError


def call_of(function: Callable[..., object]) -> str:
    """`module:qualname`. Under `python -m package.module` the module has the name that a worker imports it by, too."""
    module = function.__module__
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = getattr(spec, "name", None) or module
    return f"{module}:{function.__qualname__}"


def findable_call_of(function: Callable[..., object]) -> str:
    """As `call_of`. Raises ConfigurationError for a function that no worker can find."""
    call = call_of(function)
    if call.startswith("__main__:"):
        raise ConfigurationError(
            f"{function.__qualname__} is defined in a script that was run by its file name, or at a prompt, so no "
            "worker can find it: run the script with `python -m MODULE`, or move the task into a module of its own"
        )
    return call
