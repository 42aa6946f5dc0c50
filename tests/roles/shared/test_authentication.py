"""Roles on a server that requires SASL: reconnects under load, a password that is replaced, lost or refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from herdmaster import Herd
from herdmaster.api.internals import core_of
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.testing.running import RunningRoles
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Sasl, Security
from herdmaster.zookeeper.secret import Secret

pytestmark = pytest.mark.long

_PATIENCE = 40.0
USERS = {"al": "pw"}


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < limit, "not within the patience of the test"
        time.sleep(0.01)


def master_of(server: EmbeddedZooKeeper, auth: Sasl) -> Master:
    system = System(security=Security(auth=(auth,)))
    return Master(f"{server.hosts}/m", MasterSettings(session_timeout=2.0), system)


def roles_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the role said, not its session."""
    return [record.getMessage() for record in caplog.records if record.name == "herdmaster"]


def change_password(server: EmbeddedZooKeeper, password: str) -> None:
    users = server._server.machine.settings.access.sasl_users
    assert isinstance(users, dict)
    users["al"] = Secret(password.encode())


def test_tasks_go_on_while_every_connection_is_cut_again_and_again() -> None:
    with EmbeddedZooKeeper(sasl_users=USERS, require_auth=["sasl"]) as server:
        herd = Herd(f"{server.hosts}/m", auth=Sasl("al", "pw"))

        @herd.task
        def double(number: int) -> int:
            time.sleep(0.01)
            return 2 * number

        system = System(security=Security(auth=(Sasl("al", "pw"),)))
        settings = WorkerSettings(session_timeout=2.0, slots=4)
        worker = Worker(f"{server.hosts}/m", core_of(herd).registry.functions, settings, system=system)
        with herd, RunningRoles(master_of(server, Sasl("al", "pw")), worker):
            futures = double.submit_many([(number,) for number in range(200)])
            for part in range(0, 200, 20):
                server.drop_connections()
                assert futures[part].result(_PATIENCE) == 2 * part
            assert [future.result(_PATIENCE) for future in futures] == [2 * number for number in range(200)]


def test_a_password_that_is_replaced_on_both_sides_is_used_by_the_next_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pw\n")
    with EmbeddedZooKeeper(sasl_users=USERS, require_auth=["sasl"]) as server:
        master = master_of(server, Sasl("al", file))
        with RunningRoles(master):
            wait_for(lambda: master.not_ready() is None)
            machine = server._server.machine
            (old,) = [each for each in tuple(machine.connections) if each.session_id]
            change_password(server, "new")
            file.write_text("new\n")
            server.drop_connections()
            wait_for(lambda: [each for each in tuple(machine.connections) if each.session_id and each is not old])
            wait_for(lambda: master.not_ready() is None)
            assert {each.session_id for each in tuple(machine.connections) if each.session_id} == {old.session_id}


def test_a_master_whose_password_file_is_away_says_so_and_waits_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("pw\n")
    with EmbeddedZooKeeper(sasl_users=USERS, require_auth=["sasl"]) as server:
        master = master_of(server, Sasl("al", file))
        with RunningRoles(master):
            wait_for(lambda: master.not_ready() is None)
            file.unlink()
            server.kill_primary("/m")
            wait_for(lambda: any("cannot be read" in line for line in roles_log(caplog)))
            file.write_text("pw\n")
            wait_for(lambda: master.not_ready() is None)
    assert "cannot be read: no such file or directory; trying again" in caplog.text


def test_a_master_whose_password_is_refused_later_ends_with_the_one_error() -> None:
    with EmbeddedZooKeeper(sasl_users=USERS, require_auth=["sasl"]) as server:
        master = master_of(server, Sasl("al", "pw"))

        async def run() -> None:
            running = asyncio.ensure_future(master.run())
            async with asyncio.timeout(_PATIENCE):
                while master.not_ready() is not None:
                    await asyncio.sleep(0.01)
                change_password(server, "new")
                await asyncio.to_thread(server.drop_connections)
                await running

        with pytest.raises(errors.AuthenticationFailed, match="user or password is wrong"):
            asyncio.run(run())
