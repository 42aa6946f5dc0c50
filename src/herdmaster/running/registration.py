"""The functions that an app registers, each with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.options import PoolKind, RunOptions
from herdmaster.errors import ConfigurationError

Function = Callable[..., object]

DEFAULT_OPTIONS: Final = RunOptions()


class Registration(msgspec.Struct, frozen=True):
    """A function and its options, which a call may override. `known` are the exceptions that its app has registered,
    including those that it registers later."""

    function: Function
    options: RunOptions = DEFAULT_OPTIONS
    known: Known = NONE_KNOWN


def registrations(functions: Mapping[str, Function | Registration]) -> dict[str, Registration]:
    """Return a registration for each function: plain functions get the default options, an `async def` its pool.

    Raises ConfigurationError for a function in a pool that cannot run it.
    """
    return {name: _registration(name, value) for name, value in functions.items()}


def _registration(name: str, value: Function | Registration) -> Registration:
    found = value if isinstance(value, Registration) else Registration(value)
    pool = found.options.pool
    if inspect.iscoroutinefunction(found.function):
        if pool is PoolKind.PROCESS:
            raise ConfigurationError(f"{name} is an `async def`, which runs in the worker's own loop: leave `pool` out")
        return msgspec.structs.replace(found, options=msgspec.structs.replace(found.options, pool=PoolKind.ASYNCIO))
    if pool is PoolKind.ASYNCIO:
        raise ConfigurationError(f"{name} has pool=asyncio and is a plain `def`: make it an `async def`")
    return found
