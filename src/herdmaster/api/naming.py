"""The names by which workers find functions."""

from __future__ import annotations

import sys
from collections.abc import Callable

from herdmaster.errors import ConfigurationError


def call_of(function: Callable[..., object]) -> str:
    """`module:qualname`."""
    return f"{module_name(function.__module__)}:{function.__qualname__}"


def module_name(name: str) -> str:
    """The name by which a worker imports a module, also under `python -m package.module`."""
    if name != "__main__":
        return name
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return getattr(spec, "name", None) or name


def findable_call_of(function: Callable[..., object]) -> str:
    """As `call_of`. Raises ConfigurationError for a function that no worker can find."""
    call = call_of(function)
    if call.startswith("__main__:"):
        raise ConfigurationError(
            f"{function.__qualname__} is defined in a script that was run by its file name, or at a prompt, so no "
            "worker can find it: run the script with `python -m MODULE`, or move the task into a module of its own"
        )
    return call


def place_of(value: object) -> tuple[str, str] | None:
    """The module that holds it at its top level, other than the program itself, and its name there."""
    for name, module in list(sys.modules.items()):
        for attribute, held in list(getattr(module, "__dict__", {}).items()):
            if held is value and name != "__main__":
                return name, attribute
    return None
