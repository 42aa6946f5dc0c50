"""The times that a Herd is made with are those of its session."""

from __future__ import annotations

from herdmaster import Herd
from tests.api.znodes import wait_until


def test_a_herds_times_are_those_of_its_session(namespace: str) -> None:
    with Herd(namespace, session_timeout=1.2) as herd:
        herd.submit_raw(b"x").add_done_callback(lambda _done: None)
        outcomes = herd._core.started()._client.outcomes
        wait_until(lambda: outcomes._client is not None, "a session")
        client = outcomes._client

        assert client is not None
        assert client.timeout == 1.2
