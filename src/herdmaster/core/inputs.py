"""The inputs of a step: results of its parents, which the worker reads, and which stand in the arguments as values.

Results are decoded where the code of the step runs, because a result may be written with a codec of the app.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from herdmaster.errors import BadPayload

At = tuple[str | int, ...]
"""A place in the arguments: `("args", 0)`, `("kwargs", "sizes", 2)`."""

WHOLE: Final = 2
"""Keys that lead to a whole argument."""


class StepResult(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The JSON of a result, and the codec that it is written with."""

    data: bytes
    codec: str | None = None


class Spooled(msgspec.Struct, frozen=True, array_like=True):
    """Results of an `each` in a file: `count` items, `chunk` as of `EachItems`, and `size` bytes before the index."""

    path: str
    count: int
    chunk: int
    size: int
    codec: str | None = None


OpenSpool = Callable[[str, Spooled], Sequence[StepResult | None]]
"""Takes the id of the `each`, and returns the results in its file."""


class Input(msgspec.Struct, frozen=True, array_like=True):
    """The results of `step` for one place. A result is None where that parent is missing. `is_list`: the value is the
    list of all results; otherwise there is one result."""

    at: At
    step: str
    results: tuple[StepResult | None, ...]
    is_list: bool = False
    spooled: Spooled | None = None
    """Where the results are, in place of `results`."""

    @property
    def size(self) -> int:
        """The bytes of its results."""
        return sum(len(result.data) for result in self.results if result is not None)

    @property
    def is_plain(self) -> bool:
        """Whether no result is written with a codec."""
        if self.spooled is not None:
            return self.spooled.codec is None
        return all(result is None or result.codec is None for result in self.results)

    @property
    def is_whole_argument(self) -> bool:
        return len(self.at) == WHOLE

    @property
    def is_missing(self) -> bool:
        """Whether it is None, because its only parent is missing."""
        return not self.is_list and self.results[0] is None


def insert(args: list[object], kwargs: dict[str, object], each: Input, read: Callable[[StepResult], object]) -> None:
    """Put the value of an input in its place; from a list that is a whole argument, missing results are left out.
    Raises BadPayload, and what `read` raises."""
    value: object
    if each.is_list and each.is_whole_argument:
        value = [read(result) for result in each.results if result is not None]
    elif each.is_list:
        value = [None if result is None else read(result) for result in each.results]
    else:
        value = None if each.results[0] is None else read(each.results[0])
    put(args, kwargs, each, value)


def put(args: list[object], kwargs: dict[str, object], each: Input, value: object) -> None:
    """Put a value where an input goes. Raises BadPayload."""
    try:
        if len(each.at) < WHOLE:
            raise KeyError(each.at)
        _put({"args": args, "kwargs": kwargs}, each.at, value)
    except (LookupError, TypeError):
        raise BadPayload(f"the result of step {each.step} has no place in the arguments: {list(each.at)}") from None


def insert_missing(args: list[object], kwargs: dict[str, object], each: Input) -> None:
    """Put None for each missing result into a list that is a whole argument: hints say what the results are, and
    not that some may be missing."""
    if not each.is_list or not each.is_whole_argument:
        return
    key = each.at[1]
    value = args[key] if isinstance(key, int) else kwargs[key]
    if isinstance(value, list):
        for index, result in enumerate(each.results):
            if result is None:
                value.insert(index, None)


def _put(container: object, at: At, value: object) -> object:
    """Put a value into a container, and return the container, which is another one for a tuple."""
    key, *rest = at
    match container:
        case list() if isinstance(key, int):
            container[key] = _put(container[key], tuple(rest), value) if rest else value
        case dict():
            container[key] = _put(container[key], tuple(rest), value) if rest else value
        case tuple() if isinstance(key, int):
            items = list(container)
            items[key] = _put(items[key], tuple(rest), value) if rest else value
            return tuple(items)
        case _:
            raise TypeError(f"a {type(container).__name__} has no place {key!r}")
    return container
