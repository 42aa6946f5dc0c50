"""`herd access`, with sessions that present the digest identity of a master."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from herdmaster.cli.program import herd
from herdmaster.core.access import Identity, digest_id
from herdmaster.core.layout import FOLDERS
from herdmaster.zookeeper.model import OPEN_ACL
from tests.closed import PASSWORD, POLICY, reopen_namespace, session_of

pytestmark = pytest.mark.long

IDS = [part for each in Identity for part in (f"--{each}", POLICY.ids_of(each)[0].removeprefix("digest:"))]

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `herd access` with the credentials of a master, or with none."""
    file = tmp_path / "master.credential"
    file.write_text(f"master:{PASSWORD}\n")

    def run(*arguments: str, hosts: str = "", has_credentials: bool = True) -> Result:
        runner = CliRunner(env={"HERD_AUTH_DIGEST_FILE": str(file) if has_credentials else None})
        at = ["--zookeeper", hosts] if hosts else []
        return runner.invoke(herd, ["access", *arguments, *at], prog_name="herd", catch_exceptions=False)

    return run


@pytest.fixture
def closed(namespace: str) -> Iterator[str]:
    """The name of a namespace that a test may create and close."""
    yield f"{namespace}/closed"
    asyncio.run(reopen_namespace(f"{namespace}/closed"))
    asyncio.run(reopen_namespace(namespace))


def put(hosts: str, path: str) -> None:
    async def create() -> None:
        async with session_of(hosts, Identity.MASTER) as client:
            await client.create(path, acl=OPEN_ACL)

    asyncio.run(create())


def test_a_namespace_is_created_closed_shown_and_checked(run: Run, closed: str) -> None:
    result = run("init", "--scheme", "digest", *IDS, hosts=closed)
    assert (result.exit_code, "is closed; give each program" in result.stdout) == (0, True), result.stderr
    assert "has this policy already" in run("init", "--scheme", "digest", *IDS, hosts=closed).stdout
    assert run("check", hosts=closed).stdout == f"as it should be: {len(FOLDERS) + 2}\n"
    shown = run("show", hosts=closed).stdout
    assert shown.splitlines()[1] == f"worker    digest:{digest_id('worker', PASSWORD)}"
    assert json.loads(run("show", "--json", hosts=closed).stdout)["master"] == list(POLICY.master)

    put(closed, "/tasks/task-1")
    result = run("check", hosts=closed)
    assert result.exit_code == 1
    assert "/tasks/task-1: open to every session; has world:anyone cdrwa\n" in result.stdout
    found = json.loads(run("check", "--json", hosts=closed).stdout)
    assert (found["path"], found["state"], found["kind"]) == ("/tasks/task-1", "open to every session", "/tasks/T")

    result = run("migrate", hosts=closed)
    assert (result.exit_code, "znodes closed: 1;" in result.stdout) == (0, True), result.stderr
    assert run("check", hosts=closed).exit_code == 0


def test_an_open_namespace_is_migrated(run: Run, namespace: str, closed: str, tmp_path: Path) -> None:
    del closed  # opens the namespace in the end
    assert "the namespace is open" in run("show", hosts=namespace).stderr
    result = run("check", hosts=namespace)
    assert (result.exit_code, "the namespace is open" in result.stderr) == (1, True)
    assert (
        "exists and is open: `herd access migrate`" in run("init", "--scheme", "digest", *IDS, hosts=namespace).stderr
    )
    assert "is open: name the ids" in run("migrate", hosts=namespace).stderr
    assert run("migrate", "--scheme", "digest", *IDS, hosts=namespace).exit_code == 0
    assert run("check", hosts=namespace).exit_code == 0
    other = ["--scheme", "digest", *IDS, "--client", f"other:{'A' * 27}="]
    assert "has another policy: `herd access migrate`" in run("init", *other, hosts=namespace).stderr
    result = run("show", hosts=namespace, has_credentials=False)
    assert (result.exit_code, "NoAuth: /access: this session lacks the right READ" in result.stderr) == (1, True)
    (tmp_path / "master.credential").write_text("master:wrong\n")
    result = run("show", hosts=namespace)
    assert (result.exit_code, "(ZooKeeper does not check its password: that may be wrong)" in result.stderr) == (
        1,
        True,
    )
    (tmp_path / "master.credential").write_text(f"master:{PASSWORD}\n")


LOOKS = [
    "status", "doctor", "stats", "history", "tasks list", "queues list", "keys show", "workers list", "dead list",
    "schedules list",
]  # fmt: skip


def test_an_observer_may_use_every_command_that_only_looks(run: Run, closed: str, tmp_path: Path) -> None:
    assert run("init", "--scheme", "digest", *IDS, hosts=closed).exit_code == 0
    file = tmp_path / "observer.credential"
    file.write_text(f"observer:{PASSWORD}\n")
    runner = CliRunner(env={"HERD_AUTH_DIGEST_FILE": str(file), "HERD_ZOOKEEPER": closed})
    for command in LOOKS:
        result = runner.invoke(herd, command.split(), prog_name="herd", catch_exceptions=False)
        assert "NoAuth" not in result.output, command
        expected = 2 if command == "doctor" else 0  # there is no master
        assert result.exit_code == expected, f"{command}: {result.output}"
    for command in ("queues pause default", "keys release some", "schedules remove some", "access migrate"):
        result = runner.invoke(herd, command.split(), prog_name="herd", catch_exceptions=False)
        assert result.exit_code in {1, 2}, f"{command}: {result.output}"


def test_a_refused_command_says_what_it_lacks_and_what_it_has_presented(run: Run, closed: str, tmp_path: Path) -> None:
    assert run("init", "--scheme", "digest", *IDS, hosts=closed).exit_code == 0
    file = tmp_path / "worker.credential"
    file.write_text(f"worker:{PASSWORD}\n")
    runner = CliRunner(env={"HERD_AUTH_DIGEST_FILE": str(file), "HERD_ZOOKEEPER": closed})
    for command, lacks in {
        "status": "READ on /queues",
        "history": "READ on /history",
        "stats": "READ on /history",
        "flows list": "READ on /flows",
        "keys show some": "READ on /keys",
        "keys show": "READ on /keys",
        "dead purge --all --yes": "READ on /dead",
        "queues pause default": "CREATE on /queues",
        "schedules add a shop:area --every 1m --unchecked": "CREATE on /schedules",
    }.items():
        result = runner.invoke(herd, command.split(), prog_name="herd", catch_exceptions=False)
        assert result.exit_code == 1, f"{command}: {result.output}"
        assert f"lacks the right {lacks}; it has presented digest (" in result.stderr, f"{command}: {result.output}"
        assert len(result.stderr.splitlines()) == 1, f"{command}: {result.output}"
    for command in ("dead list", "tasks list", "queues list"):
        result = runner.invoke(herd, command.split(), prog_name="herd", catch_exceptions=False)
        assert result.exit_code == 0, f"{command}: {result.output}"
        assert " left out, because " in result.stderr.splitlines()[0], f"{command}: {result.output}"
        assert len(result.stderr.splitlines()) == 1, f"{command}: {result.output}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init"], "a policy needs --master, --worker, --client"),
        (["init", *IDS], "of which scheme is "),
        (["init", "--scheme", "digest", *IDS, "--client", "al:pw"], "is no digest id"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments, hosts="127.0.0.1:1/prod")
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_the_root_of_the_servers_is_not_closed(run: Run) -> None:
    result = run("init", "--scheme", "digest", *IDS, hosts="127.0.0.1:1")
    assert (result.exit_code, "names no namespace" in result.stderr) == (2, True)


def test_a_digest_id_is_computed_from_a_credential_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "worker"
    file.write_text(f"worker:{PASSWORD}\n")
    assert run("digest-id", str(file)).stdout == f"{digest_id('worker', PASSWORD)}\n"
    file.write_text("worker:short\n")
    result = run("digest-id", str(file))
    assert (result.exit_code, "needs 16" in result.stderr, "short" in result.stderr) == (2, True, False)
    assert "cannot be read" in run("digest-id", str(tmp_path / "absent")).stderr
