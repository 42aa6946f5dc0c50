"""`herd doctor` as a monitor and a person see it."""

from __future__ import annotations

import asyncio
import json

import pytest

from herdmaster.core import layout
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode
from tests.cli.processes import run_herd
from tests.roles.stage import new_raw_name

pytestmark = pytest.mark.long


async def test_exit_codes_tell_a_monitor_how_bad_it_is(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        result = await asyncio.to_thread(run_herd, "doctor", namespace)
        assert result.returncode == 2
        assert result.stdout.startswith("critical  there is no primary: `herd master` starts one\n")

        await client.create(
            layout.MASTER, encode_record(MasterRecord("master-aa", "h", 1, 5)), mode=CreateMode.EPHEMERAL
        )
        result = await asyncio.to_thread(run_herd, "doctor", "--zookeeper", namespace)
        assert result.returncode == 0, result.stdout
        assert "nothing keeps tasks from running" in result.stdout
        assert "note      the primary has no backup" in result.stdout

        await client.create(layout.delayed_path(5, new_raw_name()), b"x")
        result = await asyncio.to_thread(run_herd, "doctor", "--zookeeper", namespace, "--json")
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert result.returncode == 1
        assert (found[0]["code"], found[0]["severity"]) == ("overdue", "warning")
        assert found[0]["do"].startswith("see whether there is a primary")


def test_servers_that_are_away_are_named() -> None:
    result = run_herd("doctor", "127.0.0.1:1", "--connect-timeout=0.3")
    assert result.returncode == 2
    assert "critical  server 127.0.0.1:1 cannot be reached" in result.stdout
