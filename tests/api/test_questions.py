"""Questions to ZooKeeper: who is told of which error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from herdmaster.api.questions import ask_and_wait
from herdmaster.errors import HerdError
from herdmaster.roles.client.questions import Failed, Question
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


class FakeAsker:
    """Asks once. `raised` is what a client would see."""

    def __init__(self) -> None:
        self.raised: HerdError | None = None

    def ask(self, question: Question, failed: Failed, /) -> None:
        client: Any = None

        async def run() -> None:
            await question(client)

        try:
            asyncio.run(run())
        except HerdError as error:
            self.raised = error
            failed(error)


@pytest.mark.parametrize(("error", "ends_session"), [(ZeroDivisionError(), False), (errors.SessionExpired("x"), True)])
def test_only_errors_of_zookeeper_are_seen_by_the_client(error: Exception, ends_session: bool) -> None:
    asker = FakeAsker()

    async def question(_client: Client) -> int:
        raise error

    with pytest.raises(type(error)):
        ask_and_wait(asker, question, "the schedules", 5.0)
    assert (asker.raised is error) == ends_session
