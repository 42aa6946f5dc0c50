"""Which program is primary, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.roles.shared.primary_kind import PrimaryKind, PrimaryProgram, primary_is_ours, primary_program
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import Stat
from tests.roles.primary.scripted import STAT, ScriptedClient

OURS = encode_record(MasterRecord("master-x", "host", 1, 0))
REFERENCE = b"1a2b3c4d"


class Master:
    def __init__(self, data: bytes | None, children: int = 0) -> None:
        self._data, self._children = data, children

    async def get(self, path: str) -> tuple[bytes, Stat]:
        assert path == layout.MASTER
        if self._data is None:
            raise errors.NoNode(path)
        return self._data, Stat(*(0,) * 9, self._children, 0)


@pytest.mark.parametrize(
    ("data", "children", "program"),
    [
        (OURS, 0, PrimaryProgram.OURS),
        (REFERENCE, 0, PrimaryProgram.REFERENCE),
        (b"", 1, PrimaryProgram.CURATOR),
        (None, 0, PrimaryProgram.NONE),
    ],
)
async def test_a_primary_is_known_by_its_znode(data: bytes | None, children: int, program: PrimaryProgram) -> None:
    client: Any = Master(data, children)

    assert await primary_program(client) is program
    assert await primary_is_ours(client) == (program is PrimaryProgram.OURS)


def asking() -> tuple[PrimaryKind, ScriptedClient, list[bool]]:
    client = ScriptedClient()
    given: Any = client
    answers: list[bool] = []
    kind = PrimaryKind(given)
    kind.ask(answers.append)
    return kind, client, answers


@pytest.mark.parametrize(("data", "is_ours"), [(OURS, True), (REFERENCE, False)])
def test_one_question_at_a_time_is_answered_once(data: bytes, is_ours: bool) -> None:
    kind, client, answers = asking()
    kind.ask(answers.append)
    assert client.pending() == ["get"]
    assert client.answer("get", (data, STAT)) == layout.MASTER
    assert answers == [is_ours]

    kind.ask(answers.append)
    client.answer("get", (data, STAT))
    assert answers == [is_ours] * 2


@pytest.mark.parametrize("error", [errors.NoNode("master"), errors.ConnectionLoss()])
def test_without_a_primary_or_a_reply_there_is_no_answer_and_the_next_question_is_asked(error: Exception) -> None:
    kind, client, answers = asking()
    client.answer("get", None, error)
    assert answers == []

    kind.ask(answers.append)
    assert client.pending() == ["get"]


def test_a_session_that_is_over_gives_no_answer_and_keeps_no_question() -> None:
    class Over:
        asked = 0

        def get_nowait(self, _path: str, _done: object) -> None:
            self.asked += 1
            raise errors.SessionExpired("over")

    client = Over()
    given: Any = client
    kind = PrimaryKind(given)
    for _ in range(2):
        kind.ask(lambda _is_ours: None)

    assert client.asked == 2
