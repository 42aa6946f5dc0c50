"""Each role opens its sessions with the times of its settings."""

from __future__ import annotations

from typing import Any

import pytest

from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared import role
from herdmaster.roles.shared.role import Role
from herdmaster.roles.worker.worker import Worker, WorkerSettings

HOSTS = "127.0.0.1:1/nowhere"


@pytest.mark.parametrize(
    ("opened", "is_founder"),
    [
        (TaskClient(HOSTS, ClientSettings(session_timeout=3.0, connect_timeout=7.0)), False),
        (Master(HOSTS, MasterSettings(session_timeout=3.0, connect_timeout=7.0)), True),
        (Worker(HOSTS, {}, WorkerSettings(session_timeout=3.0, connect_timeout=7.0)), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_session_has_the_times_of_the_settings(
    opened: Role, is_founder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    client = object()

    async def open_client(hosts: object, system: object, **given: object) -> object:
        asked.update(given, hosts=hosts, system=system)
        return client

    monkeypatch.setattr(role, "open_client", open_client)

    given: object = await opened.open()

    assert given is client
    assert (asked["session_timeout"], asked["connect_timeout"]) == (3.0, 7.0)
    assert (asked["hosts"], asked["system"]) == (opened.hosts, opened.system)
    assert asked["predecessors"] is opened.predecessors
    assert (asked["is_founder"], asked["says_late"]) == (is_founder, True)
