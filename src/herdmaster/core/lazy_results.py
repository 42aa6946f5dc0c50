"""The results of the items of an `each` as a sequence, which reads and converts each result when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, overload

from herdmaster.core.inputs import StepResult


class LazyResults(Sequence[object]):
    """What a step gets for the results of an `each` where its hint is Sequence, Collection or Iterable. A result is
    None where that item is missing. A slice is a list. A result that does not fit the hint raises where it is read."""

    __hash__: ClassVar[None]  # type: ignore[assignment]  # as that of a list

    def __init__(self, results: Sequence[StepResult | None], read: Callable[[StepResult], object]) -> None:
        self._results = results
        self._read = read

    def __repr__(self) -> str:
        return f"<{len(self)} results>"

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int, /) -> object: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[object]: ...

    def __getitem__(self, index: int | slice, /) -> object:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return self._value(self._results[index])

    def __iter__(self) -> Iterator[object]:
        return map(self._value, self._results)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (LazyResults, list)):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def _value(self, result: StepResult | None) -> object:
        return None if result is None else self._read(result)
