"""A namespace that is created is logged: its name may be a mistake."""

from __future__ import annotations

import logging

import pytest

from herdmaster.roles.shared.bootstrap import open_client
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper.client import parse_connect_string


@pytest.mark.parametrize(("is_founder", "level"), [(False, logging.WARNING), (True, logging.INFO)])
async def test_a_namespace_that_is_not_there_is_told_once(
    namespace: str, caplog: pytest.LogCaptureFixture, is_founder: bool, level: int
) -> None:
    caplog.set_level(logging.INFO, "herdmaster.connecting")
    hosts = parse_connect_string(f"{namespace}/deep/er")
    for _ in range(2):
        client = await open_client(hosts, System(), session_timeout=2.0, connect_timeout=10.0, is_founder=is_founder)
        assert await client.exists("/tasks") is not None
        await client.close()
    servers = namespace.partition("/")[0]
    assert [
        (record.levelno, record.getMessage()) for record in caplog.records if "namespace" in record.getMessage()
    ] == [(level, f"namespace {hosts.chroot.prefix} does not exist yet: it is created on {servers}")]
