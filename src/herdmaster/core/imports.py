"""Functions that a worker runs although no task of its app is registered under their names.

Off unless the worker was started with prefixes of modules (`--allow-import shop.jobs`). A call may then name a function
at the top level of such a module, and of that module itself: not what the module has imported, not a method, not
anything reached through an attribute. So a prefix allows what stands in its modules and nothing behind them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable

from herdmaster.errors import ConfigurationError, UnknownCall


def check_prefix(prefix: str) -> str:
    """The prefix itself: a module's name, which stands for the module and those below it. Raises ConfigurationError."""
    if not all(part.isidentifier() for part in prefix.split(".")):
        raise ConfigurationError(f"{prefix!r} is no module's name, such as shop.jobs, which allows shop.jobs.mail, too")
    return prefix


def allowed_import(call: str, prefixes: Iterable[str]) -> bool:
    """Whether the name of a call, `module:function`, is one that these prefixes allow. Imports nothing."""
    module, _, function = call.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return False
    return any(f"{module}.".startswith(f"{prefix}.") for prefix in prefixes)


def resolve_import(call: str, prefixes: Iterable[str]) -> Callable[..., object]:
    """The function, its module imported: what the module's own code raises goes through. Raises UnknownCall."""
    if not allowed_import(call, prefixes):
        raise UnknownCall(
            f"{call} is neither registered with this worker nor a function at the top level of a module that it may "
            "import: start it with `--allow-import MODULE`"
        )
    module_name, _, name = call.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it is there, and misses a module of its own
        raise UnknownCall(f"this worker has no module {error.name}, in which {call} should be") from None
    found: object = vars(module).get(name)
    if callable(found) and _is_own(inspect.unwrap(found), module_name, name):
        return found
    raise UnknownCall(f"{module_name} has no function {name} of its own that could be run")


def _is_own(function: object, module: str, name: str) -> bool:
    if not (inspect.isfunction(function) or inspect.isbuiltin(function)):
        return False
    return (function.__module__, function.__qualname__) == (module, name)
