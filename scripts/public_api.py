"""List the public names of Herdmaster with their signatures, and check that all of them have types and docstrings.

Usage: python scripts/public_api.py > tests/public_api.list

A test compares the list with tests/public_api.list. Faults go to stderr, and the exit status is then 1: a parameter, a
result or an attribute without a type, a type that is Any, a class or function without a docstring. This is a program of
its own and no part of the test: CPython 3.11 can fail to make an AST in a process with other threads
(python/cpython#106905).
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

MODULES = (
    "herdmaster",
    "herdmaster.monitoring",
    "herdmaster.testing",
    "herdmaster.testing.apache",
    "herdmaster.testing.embedded",
    "herdmaster.testing.pytest_plugin",
    "herdmaster.zookeeper",
    "herdmaster.zookeeper.errors",
)
SPECIAL = (
    "__init__", "__call__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__aiter__", "__await__",
)  # fmt: skip
"""Methods with underscores that users call, if only through syntax."""
MAY_BE_ANY = {
    "herdmaster.testing.task_context(task)": "a task of any parameters and result",
}
"""The places where Any is meant, with the reason."""
NAMED_BY_ZOOKEEPER = "herdmaster.zookeeper."
"""Docstrings may be missing here: many methods and errors have the names of ZooKeeper's own, which documents them."""
INTERNAL_CONSTRUCTORS = {
    "herdmaster.AsyncTask",
    "herdmaster.CurrentTask",
    "herdmaster.Future",
    "herdmaster.Results",
    "herdmaster.Task",
    "herdmaster.testing.TaskContext",
    "herdmaster.zookeeper.Transaction",
}
"""Classes whose objects Herdmaster makes: the arguments of their constructors are not public."""


class Listing:
    """The lines of the list, and the faults that were found on the way."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.faults: list[str] = []

    def add_module(self, name: str) -> None:
        """Add the public names of a module: its `__all__`, or the names that it defines."""
        module = import_module(name)
        self.lines.append(name)
        for each in sorted(_names(module)):
            self._add(f"{name}.{each}", each, getattr(module, each))

    def _add(self, path: str, name: str, value: object) -> None:
        if inspect.isclass(value):
            self._add_class(path, name, value)
        elif inspect.isfunction(function := _function_of(value)):
            self._add_function(path, name, function, "    ")
        elif typing.get_origin(value) is not None:
            self.lines.append(f"    {name} = {value}")
        else:
            self.lines.append(f"    {name}: {type(value).__name__}")

    def _add_class(self, path: str, name: str, value: type) -> None:
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        self.lines.append(f"    class {name}({bases})")
        self._check_docstring(path, value)
        for member, entry in sorted(_members(value).items()):
            if member == "__init__" and (path in INTERNAL_CONSTRUCTORS or getattr(value, "_is_protocol", False)):
                continue
            self._add_member(f"{path}.{member}", member, entry, value)

    def _add_member(self, path: str, name: str, entry: object, owner: type) -> None:
        if isinstance(entry, property):
            assert entry.fget is not None
            self.lines.append(
                f"        {name}: {self._type(path, entry.fget.__annotations__.get('return'))} (property)"
            )
            self._check_docstring(path, entry)
        elif isinstance(entry, Attribute):
            self.lines.append(f"        {name}: {self._type(path, entry.type)}")
        elif isinstance(entry, enum.Enum):
            self.lines.append(f"        {name} = {entry.value!r}")
        else:
            kind = "static " if isinstance(entry, staticmethod) else "class " if isinstance(entry, classmethod) else ""
            function = getattr(owner, name) if kind else entry
            assert callable(function)
            self._add_function(path, name, inspect.unwrap(function), f"        {kind}")

    def _add_function(self, path: str, name: str, function: Callable[..., object], indent: str) -> None:
        is_async = inspect.iscoroutinefunction(function)
        for each in typing.get_overloads(function) or [function]:
            signature = inspect.signature(each)
            shown = ", ".join(self._parameters(path, signature))
            result = "None" if name == "__init__" else self._type(path, signature.return_annotation)
            self.lines.append(f"{indent}{'async ' if is_async else ''}def {name}({shown}) -> {result}")
        if not name.startswith("__"):
            self._check_docstring(path, function)

    def _parameters(self, path: str, signature: inspect.Signature) -> Iterator[str]:
        previous = None
        for parameter in signature.parameters.values():
            kind = parameter.kind
            if previous is parameter.POSITIONAL_ONLY and kind is not previous:
                yield "/"
            if kind is parameter.KEYWORD_ONLY and previous not in {kind, parameter.VAR_POSITIONAL}:
                yield "*"
            previous = kind
            stars = "*" if kind is parameter.VAR_POSITIONAL else "**" if kind is parameter.VAR_KEYWORD else ""
            if parameter.name in {"self", "cls"}:
                yield parameter.name
                continue
            annotation = self._type(f"{path}({parameter.name})", parameter.annotation)
            default = "" if parameter.default is parameter.empty else f" = {_shown(parameter.default)}"
            yield f"{stars}{parameter.name}: {annotation}{default}"
        if previous is inspect.Parameter.POSITIONAL_ONLY:
            yield "/"

    def _type(self, path: str, annotation: object) -> str:
        if annotation is None or annotation is inspect.Signature.empty:
            self.faults.append(f"{path} has no type")
            return "?"
        shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        shown = shown.replace("'", "").replace('"', "")
        if re.search(r"\bAny\b", shown) and path not in MAY_BE_ANY:
            self.faults.append(f"{path} is {shown}: give it a type")
        return shown

    def _check_docstring(self, path: str, value: object) -> None:
        if not (getattr(value, "__doc__", None) or "").strip() and not path.startswith(NAMED_BY_ZOOKEEPER):
            self.faults.append(f"{path} has no docstring")


class Attribute(typing.NamedTuple):
    """An attribute of an object that is no property."""

    type: str | None


def _shown(default: object) -> str:
    """Return the default of a parameter in a form that is the same on every machine."""
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    if default is None or default == () or isinstance(default, (bool, int, float, str, bytes)):
        return repr(default)
    return getattr(default, "__qualname__", None) or "..."


def _function_of(value: object) -> object:
    """Return the function below decorators, that of pytest's fixtures among them."""
    get_function = getattr(value, "_get_wrapped_function", None)
    found = get_function() if get_function is not None else value
    return inspect.unwrap(found) if callable(found) else found


def _names(module: ModuleType) -> list[str]:
    """Return the public names of a module."""
    exported: list[str] | None = getattr(module, "__all__", None)
    if exported is not None:
        return exported
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and not isinstance(value, typing.TypeVar)
    ]


def _members(owner: type) -> dict[str, object]:
    """Return the public members of a class, those that it inherits from Herdmaster's classes included."""
    found: dict[str, object] = {}
    if issubclass(owner, enum.Enum):
        found.update(owner.__members__)
    for each in owner.__mro__:
        if not each.__module__.startswith("herdmaster"):
            continue
        for name, value in vars(each).items():
            if (name in SPECIAL or not name.startswith("_")) and _is_method(value):
                found.setdefault(name, value)
        for name, annotation in _attributes(each).items():
            if not name.startswith("_") and name != "args" and not issubclass(each, enum.Enum):
                found.setdefault(name, Attribute(annotation))
    return found


def _is_method(value: object) -> bool:
    return isinstance(value, (staticmethod, classmethod, property)) or inspect.isfunction(value)


def _attributes(owner: type) -> dict[str, str | None]:
    """Return the attributes that a class declares, or that its methods set on `self`, with their types as written."""
    found: dict[str, str | None] = {
        name: str(getattr(each, "__forward_arg__", each))
        for name, each in vars(owner).get("__annotations__", {}).items()
    }
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):
        return found
    definition = tree.body[0]
    assert isinstance(definition, ast.ClassDef)
    for method in definition.body:
        if isinstance(method, ast.FunctionDef):
            for name, annotation in _set_attributes(method):
                if found.get(name) is None:
                    found[name] = annotation
    return found


def _set_attributes(method: ast.FunctionDef) -> Iterator[tuple[str, str | None]]:
    arguments = (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)
    types = {each.arg: ast.unparse(each.annotation) for each in arguments if each.annotation is not None}
    for node in ast.walk(method):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                if isinstance(node, ast.AnnAssign):
                    yield target.attr, ast.unparse(node.annotation)
                else:
                    value = getattr(node, "value", None)
                    yield target.attr, types.get(value.id) if isinstance(value, ast.Name) else None


def main() -> int:
    listing = Listing()
    for name in MODULES:
        listing.add_module(name)
    print("\n".join(listing.lines))
    print("\n".join(listing.faults), end="", file=sys.stderr)
    return 1 if listing.faults else 0


if __name__ == "__main__":
    sys.exit(main())
