from __future__ import annotations

import pytest

from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.zookeeper import errors


class Request:
    """A write that ends as scripted, one outcome per call."""

    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes = list(outcomes)

    async def __call__(self) -> str:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_request_is_repeated_until_its_reply_comes() -> None:
    request = Request(errors.ConnectionLoss("lost"), errors.ConnectionLoss("lost"), "reply", "another")

    assert await until_certain(request) == "reply"
    assert request.outcomes == ["another"]


@pytest.mark.parametrize("error", [errors.NodeExists("/a"), errors.NoNode("/a"), errors.SessionExpired("over")])
async def test_every_other_error_is_certain(error: Exception) -> None:
    request = Request(errors.ConnectionLoss("lost"), error, "reply")

    with pytest.raises(type(error)):
        await until_certain(request)
    assert request.outcomes == ["reply"]
