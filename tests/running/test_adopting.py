"""A running task has its children before they are submitted: it waits for its session, and for every note."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.children import encode_worker
from herdmaster.errors import HerdError, NotSaved
from herdmaster.running import adopting
from herdmaster.running.adopting import adopt, adopt_async
from herdmaster.running.current import running_now
from herdmaster.running.once import Saved

PARENT = "task-01arz3ndektsv4rrffq69g5fav.default"
CHILDREN = tuple(f"task-01arz3ndektsv4rrffq69g5fa{number}.default" for number in range(3))


class Run:
    """Answers each save at once. It is unknown for some looks whether the task is still here."""

    name = PARENT

    def __init__(self) -> None:
        self.unknown = 2
        self.saved: list[str] = []
        self.answers: list[msgspec.Raw | HerdError] = [msgspec.Raw(encode_worker("worker-w"))] * 3

    def may_begin_once(self) -> bool:
        self.unknown -= 1
        return self.unknown < 0

    def save(self, name: str, _data: bytes, saved: Saved) -> None:
        assert self.unknown < 0, "the session may be over"
        self.saved.append(name)
        saved(self.answers.pop(0))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(adopting, "PAUSE_SECONDS", 0.0)
    run = Run()
    given: Any = run
    token = running_now.set(given)
    yield run
    running_now.reset(token)


def test_the_children_are_noted_when_the_session_is_certain(run: Run) -> None:
    assert adopt(CHILDREN) == layout.assignment_path("worker-w", PARENT)
    assert len(run.saved) == len(set(run.saved)) == len(CHILDREN)


@pytest.mark.parametrize("index", range(3))
def test_a_child_that_could_not_be_noted_is_not_submitted(run: Run, index: int) -> None:
    run.answers[index] = NotSaved("it is gone")
    with pytest.raises(NotSaved, match="it is gone"):
        adopt(CHILDREN)


async def test_coroutines_do_the_same() -> None:
    run: Any = Run()
    run.unknown = 0
    token = running_now.set(run)
    try:
        assert await adopt_async(CHILDREN) == layout.assignment_path("worker-w", PARENT)
    finally:
        running_now.reset(token)
