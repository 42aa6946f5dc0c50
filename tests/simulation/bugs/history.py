"""Planted bugs of the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.core import history_recorder
from herdmaster.core.history import EndState
from herdmaster.roles.shared.history_writer import HistoryWriter


def batch_under_another_name() -> Any:
    """A batch that may have been written is written again under another name."""
    write = HistoryWriter.write

    async def renamed(self: Any, client: Any) -> bool:
        if self._unwritten is not None:
            name, data = self._unwritten
            self._unwritten = (f"{name.partition('-')[0]}-{self._system.new_id()}", data)
        return await write(self, client)

    return patch.object(HistoryWriter, "write", renamed)


def done_is_not_counted() -> Any:
    """One call of the recorder in three does not count a task that is done."""
    count = history_recorder.Recorder.count

    def forget(self: Any, call: str, queue: str, result: EndState, times: Any = None) -> None:
        self.__dict__["number"] = self.__dict__.get("number", 0) + 1
        if result is not EndState.DONE or self.number % 3:
            count(self, call, queue, result, times)

    return patch.object(history_recorder.Recorder, "count", forget)


BUGS: dict[str, Callable[[], Any]] = {bug.__name__: bug for bug in (batch_under_another_name, done_is_not_counted)}
