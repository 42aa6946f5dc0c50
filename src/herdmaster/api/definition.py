"""Says which callables can be tasks, and whether two registrations of one name are of the same function."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Iterator
from types import CellType, CodeType, FrameType, FunctionType, MethodType
from typing import Final

from herdmaster.api.callee import call_of, module_name
from herdmaster.errors import ConfigurationError

_PLAIN: Final = (str, bytes, int, float, complex, type(None))
"""Types of values in closures and defaults that are compared by value; others are compared by identity."""
_TOP: Final = "write a `def` at the top of a module"


# --- what can be a task ----------------------------------------------------------------------------------------------


def checked_function(function: object) -> FunctionType:
    """Return the function. Raises ConfigurationError for a callable that a worker could not find or run; the error says
    where the callable is defined and what to write instead."""
    inner = _innermost(function)
    reason = _why_no_function(function, inner) or _why_no_task(function, inner)
    if reason is not None:
        raise ConfigurationError(f"{_place(inner)}: {reason}")
    assert isinstance(function, FunctionType)
    return function


def _why_no_function(function: object, inner: object) -> str | None:
    if isinstance(function, staticmethod):
        return f"{_name(inner)} is a staticmethod object: write @staticmethod above @herd.task, not below it"
    if isinstance(function, classmethod):
        return f"{_name(inner)} is a classmethod, whose class no worker would pass: {_TOP} that names the class"
    if isinstance(function, functools.partial):
        return f"{function!r} has no name by which a worker could find it: {_TOP} that makes this call"
    if hasattr(function, "submit_async"):
        return f"{function!r} is a task already: task.options(...) gives the same one with other options"
    if isinstance(function, MethodType):
        return _method(_name(function))
    if not isinstance(function, FunctionType):
        return f"{function!r} is no function that is written in Python: {_TOP} that calls it"
    if function.__name__ == "<lambda>":
        return f"a lambda has no name by which a worker could find it: {_TOP}"
    return None


def _why_no_task(function: object, inner: object) -> str | None:
    name = _name(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        return f"{name} is a generator, and no result could be sent back: return a list instead"
    if inspect.iscoroutinefunction(inner) and not inspect.iscoroutinefunction(function):
        return (
            f"{name} is an `async def` behind a decorator whose wrapper is a plain `def`, so nothing would await it: "
            "make the wrapper an `async def` that awaits the function, or register the `async def` itself"
        )
    owner = name.rpartition(".")[0]
    if owner and not owner.endswith("<locals>") and _first_parameter(inner) in ("self", "cls"):
        return _method(name)
    return None


def _method(name: str) -> str:
    return (
        f"{name} is a method, and a worker has no object to call it on: {_TOP} that takes or makes the object, or "
        "write @staticmethod above @herd.task and leave the parameter out"
    )


def _first_parameter(function: object) -> str | None:
    code = getattr(function, "__code__", None)
    return code.co_varnames[0] if isinstance(code, CodeType) and code.co_argcount else None


def _innermost(function: object) -> object:
    """Return the function below partial objects and decorators that name what they wrap."""
    inner = function
    for _ in range(100):  # a wrapper may name itself
        if isinstance(inner, functools.partial):
            inner = inner.func
        elif (wrapped := getattr(inner, "__wrapped__", None)) is not None:
            inner = wrapped
        else:
            break
    return inner


def _file(function: object) -> str | None:
    code = getattr(_innermost(function), "__code__", None)
    return code.co_filename if isinstance(code, CodeType) else None


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def _place(function: object) -> str:
    """Return the `file:line` of a function, else of the code that registers it."""
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        return f"{code.co_filename}:{code.co_firstlineno}"
    for frame in _callers():
        if not str(frame.f_globals.get("__name__")).startswith("herdmaster.api"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return "?"


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


# --- whether two are one ---------------------------------------------------------------------------------------------


class Definition:
    """A registered function, and the run of a module in which it was registered."""

    __slots__ = ("_run", "function")

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self._run = ModuleRun.here()

    def check_replaces(self, known: Definition) -> None:
        """Raise ConfigurationError, which names both places, unless this is the known function, or a new object of it:
        from the same place, or from the same file in a later run of its module (`importlib.reload`, a cell of a
        notebook)."""
        if self.function is known.function or self._is_rerun_of(known):
            return
        found = _difference(known.function, self.function, set())
        if found is None:
            return
        first, second, why = found
        raise ConfigurationError(
            f"two different functions are registered as {call_of(self.function)}, at {_place(first)} and "
            f"{_place(second)}{why}, and a worker could run only one of them: give each a name of its own, and use "
            "functools.wraps where a decorator wraps it"
        )

    def _is_rerun_of(self, known: Definition) -> bool:
        """Say whether the module that defines both was run again between them."""
        module = module_name(self.function.__module__)
        if self._run.module != module or not self._run.repeats(known._run):
            return False
        # Each cell of a notebook is a separate file.
        return module == "__main__" or _file(self.function) == _file(known.function)


class ModuleRun:
    """One run of the code of a module, in which something was registered."""

    __slots__ = ("_code", "module")

    def __init__(self, module: str | None, code: weakref.ref[CodeType] | None) -> None:
        self.module = module
        self._code = code

    @classmethod
    def here(cls) -> ModuleRun:
        """Return the run that calls this. Its code is a new object each time the module is loaded."""
        for frame in _callers():
            if frame.f_code.co_name == "<module>":
                return cls(module_name(str(frame.f_globals.get("__name__"))), weakref.ref(frame.f_code))
        return cls(None, None)

    def repeats(self, earlier: ModuleRun) -> bool:
        """Return whether this is a later run of the same module: a reload, or a cell of a notebook."""
        return self.module == earlier.module and self._code is not earlier._code


_Difference = tuple[FunctionType, FunctionType, str]
"""Two functions that differ, and how they differ if they are from one place."""


def _difference(first: FunctionType, second: FunctionType, seen: set[tuple[int, int]]) -> _Difference | None:
    if first is second or (id(first), id(second)) in seen:
        return None
    seen.add((id(first), id(second)))
    one, other = first.__code__, second.__code__
    if _where(one) != _where(other):
        return first, second, ""
    changed = ""
    for name, old, new in _contents(first, second):
        if isinstance(old, FunctionType) and isinstance(new, FunctionType):
            found = _difference(old, new, seen)
            if found is not None:
                return found
        elif not _is_same(old, new):
            changed = f" (made twice there, with another `{name}` the second time)"
    # Code that was compiled again is from another run of its module, in which all objects are new.
    return (first, second, changed) if changed and one is other else None


def _contents(first: FunctionType, second: FunctionType) -> Iterator[tuple[str, object, object]]:
    """Yield the values that two functions from one place hold beside their code: a name and both values."""
    pairs = zip(first.__code__.co_freevars, first.__closure__ or (), second.__closure__ or (), strict=True)
    for name, old, new in pairs:
        yield name, _plain(_content(old)), _plain(_content(new))
    yield "default", first.__defaults__, second.__defaults__
    yield "default", first.__kwdefaults__, second.__kwdefaults__


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return None


def _plain(value: object) -> object:
    """Return the function of a task, and any other value as it is."""
    return getattr(value, "function", value) if hasattr(value, "submit_async") else value


def _is_same(old: object, new: object) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, tuple) and isinstance(new, tuple):
        return len(old) == len(new) and all(map(_is_same, old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_is_same(value, new[key]) for key, value in old.items())
    return old is new or (isinstance(old, _PLAIN) and old == new)


def _where(code: CodeType) -> tuple[str, int, str]:
    return code.co_filename, code.co_firstlineno, code.co_qualname
