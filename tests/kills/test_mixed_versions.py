"""An older version is upgraded one process at a time, and downgraded again, and no client of either has an error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.processes import REPOSITORY, HerdProcess, wait_until
from tests.kills.rolling import Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OLDER = "0b477c1"
"""A commit from before the history, metrics, schedules and flows."""
ENOUGH = 20


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of processes of the older version."""
    folder = tmp_path_factory.mktemp("older")
    archive = subprocess.run(["git", "archive", OLDER, "src"], cwd=REPOSITORY, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no commit {OLDER} here: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    environment = {"PYTHONPATH": str(folder / "src")}
    used = subprocess.run(
        [sys.executable, "-c", "import herdmaster; print(herdmaster.__file__)"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(used.stdout).is_relative_to(folder)
    return environment


def ended(client: HerdProcess) -> int:
    return int((client.stdout.split() or ["0"])[-1])


def wait_more(client: HerdProcess, after: str) -> None:
    enough = ended(client) + ENOUGH
    wait_until(lambda: "Error" in client.stderr or ended(client) >= enough, f"no results after a {after}")
    assert client.stderr == ""


def test_versions_mix_while_a_deployment_is_upgraded_and_downgraded(
    namespace: str, older: Mapping[str, str], tmp_path: Path
) -> None:
    told, module = tmp_path / "stop", "tests.kills.steady_client"
    with ExitStack() as stack:
        roles = Roles(namespace, stack, older)
        environments: list[Mapping[str, str]] = [older, {}]
        clients = [
            stack.enter_context(HerdProcess(namespace, str(told), module=module, environment=environment))
            for environment in environments
        ]
        for version in ({}, older):
            roles.environment = version
            for role in roles.restart_each():
                for client in clients:
                    wait_more(client, role)
        told.touch()
        assert [client.wait() for client in clients] == [0, 0]
