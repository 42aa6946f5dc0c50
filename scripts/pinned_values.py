"""List the numbers that the modules name in capitals, and the defaults of all records.

Usage: python scripts/pinned_values.py > tests/pinned_values.list

A test compares the list with the code, so that no value changes by mistake. What a stored record leaves out has its
default: another default would change the meaning of what is stored.
"""

from __future__ import annotations

import enum
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import msgspec

FOLDERS = ("api", "core", "operations", "pools", "roles", "running", "zookeeper")
_PLAIN = (bool, int, float, str, bytes, tuple, frozenset, enum.Enum, msgspec.Struct, type(None), msgspec.Raw)


def values() -> dict[str, str]:
    """Return the texts of all values, by their places."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        package = import_module(f"herdmaster.{folder}")
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not each.name.endswith("__main__"):
                module = import_module(each.name)
                place = each.name.removeprefix("herdmaster.")
                found.update((f"{place}.{name}", text) for name, text in _of_module(module))
    return dict(sorted(found.items()))


def _of_module(module: ModuleType) -> Iterator[tuple[str, str]]:
    annotated = inspect.get_annotations(module)
    for name, value in vars(module).items():
        if isinstance(value, int | float) and name.isupper() and (name in annotated or name.startswith("_")):
            yield name, _text(value)  # any other name in capitals is imported, and listed where it is from
        elif isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__:
            fields = value.__struct_fields__[::-1]
            for field, default in zip(fields, value.__struct_defaults__[::-1], strict=False):
                if isinstance(default, _PLAIN):
                    yield f"{name}.{field}", _text(default)


def _text(value: object) -> str:
    match value:
        case msgspec.Raw():
            return f"Raw({bytes(value)!r})"
        case frozenset():
            return f"frozenset({sorted(map(repr, value))})"
        case _:
            return repr(value)


def main() -> None:
    print("\n".join(f"{place} = {text}" for place, text in values().items()))


if __name__ == "__main__":
    main()
