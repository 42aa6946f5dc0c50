"""Requests to cancel children, answer by answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from herdmaster.core.children import NOTHING, encode_parent, key_of_child
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.payload import Call, encode_arguments, encode_call, with_saved
from herdmaster.core.retry import Raised
from herdmaster.core.run import Returned, Run
from herdmaster.roles.worker.child_cancels import ChildCancels
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors

W = "worker-01arz3ndektsv4rrffq69g5fa0"
CHILD, OTHER = "task-01arz3ndektsv4rrffq69g5fav.default", "task-01arz3ndektsv4rrffq69g5faw.default"
PAYLOAD = with_saved(
    encode_call(Call(1, "m:f", *encode_arguments((), {}))),
    {key_of_child(CHILD): msgspec.Raw(NOTHING), key_of_child(OTHER): msgspec.Raw(NOTHING), "n": msgspec.Raw(b"1")},
)
TASK = Delivered("task-a", PAYLOAD, 1)


class Client:
    def __init__(self) -> None:
        self.created: list[tuple[str, Callable[[str | None, Exception | None], None]]] = []

    def create_nowait(self, path: str, data: bytes, done: Callable[..., None]) -> None:
        assert data == encode_parent(W, TASK.name)
        self.created.append((path, done))

    def answer(self, error: Exception | None = None) -> str:
        path, done = self.created.pop(0)
        done(None if error else path, error)
        return path


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def cancels(client: Client) -> ChildCancels:
    return ChildCancels(cast("Any", client), W)


def ended_by(kind: str) -> Run:
    return Run(Raised(ErrorInfo(kind), ()), 0, 0)


@pytest.mark.parametrize("kind", ["TimeLimitExceeded", "SoftTimeLimitExceeded"])
def test_a_time_limit_cancels_the_children(client: Client, cancels: ChildCancels, kind: str) -> None:
    cancels.attempt_ended(TASK, ended_by(kind))
    cancels.send()
    assert [client.answer(), client.answer(errors.NodeExists("x"))] == [f"/cancel/{CHILD}", f"/cancel/{OTHER}"]
    cancels.send()
    assert not client.created


@pytest.mark.parametrize("run", [Run(Returned(), 0, 0), ended_by("LookupError"), ended_by("NotSaved")])
def test_no_other_end_of_an_attempt_cancels_them(client: Client, cancels: ChildCancels, run: Run) -> None:
    cancels.attempt_ended(TASK, run)
    cancels.send()
    assert not client.created


def test_a_request_whose_reply_was_lost_is_sent_again(client: Client, cancels: ChildCancels) -> None:
    cancels.attempt_ended(TASK, ended_by("TimeLimitExceeded"))
    cancels.send()
    client.answer(errors.ConnectionLoss("lost"))
    client.answer(errors.SessionExpired("over"))
    cancels.send()
    assert [path for path, _ in client.created] == [f"/cancel/{CHILD}"]


def test_a_worker_that_may_not_cancel_says_so_once(
    client: Client, cancels: ChildCancels, caplog: pytest.LogCaptureFixture
) -> None:
    cancels.attempt_ended(TASK, ended_by("TimeLimitExceeded"))
    cancels.send()
    client.answer(errors.NoAuth("/cancel"))
    client.answer(errors.NoAuth("/cancel"))
    cancels.send()
    assert not client.created
    assert caplog.text.count("is the child of a task that exceeded its time limit, and stays") == 1
