"""Flows in several closed namespaces of one ensemble, with all that can go wrong at the same time."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from herdmaster.core.access import Identity
from herdmaster.testing.apache import QUICK_START, ApacheEnsemble, ZooKeeperNotInstalled
from tests.authority import Authority
from tests.cli.processes import REPOSITORY
from tests.kills.flow_mix import MixedNamespace, Programs
from tests.kills.test_certificates import credentials_of

pytestmark = [pytest.mark.slow, pytest.mark.apache, pytest.mark.timeout(600)]

OLDER = "efaf514"
"""A commit with access policies and signing keys, whose workers do not know flows."""

JAVA = (*QUICK_START, "-Xmx768m")
"""With a heap that is large enough for a follower that has missed the items of a flow."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def older(tmp_path: Path) -> Mapping[str, str]:
    archive = subprocess.run(["git", "archive", OLDER, "src"], cwd=REPOSITORY, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no commit {OLDER} here: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x"], cwd=tmp_path, input=archive.stdout, check=True)
    return {"PYTHONPATH": str(tmp_path / "src")}


@pytest.fixture
def ensemble(authority: Authority, stack: ExitStack) -> ApacheEnsemble:
    settings = {"enforce.auth.enabled": "true", "enforce.auth.schemes": "x509"}
    try:
        return stack.enter_context(ApacheEnsemble(tls=authority.server.tls(), settings=settings, java_options=JAVA))
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


@pytest.fixture
def programs(
    authority: Authority, older: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Programs:
    keys = tmp_path / "keys"
    keys.write_text(f"one {base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    keys.chmod(0o600)
    monkeypatch.setenv("HERD_SIGNING_KEYS_FILE", str(keys))  # for the clients in this process
    return Programs({identity: credentials_of(authority, identity) for identity in Identity}, keys, older)


def test_flows_end_and_leave_nothing_whatever_happens_at_once(
    ensemble: ApacheEnsemble, programs: Programs, tmp_path: Path, stack: ExitStack
) -> None:
    """Two namespaces; steps in every pool; workers that do not know flows; retries while steps run; a cancellation
    while items are made; SIGKILL for primaries, workers and a ZooKeeper server."""
    namespaces = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        hosts = f"{ensemble.secure_hosts}/mix-{name}"
        namespaces.append(MixedNamespace(hosts, programs, tmp_path / name, stack))
    for namespace in namespaces:
        namespace.retry_while_it_runs()
        namespace.kill_primary_and_worker()
    server = ensemble.members[0]
    server.kill()
    for namespace in namespaces:
        namespace.mend_and_retry()
        namespace.check_steps()
    for namespace in namespaces:
        namespace.cancel_while_items_are_made()
    server.start()
    for namespace in namespaces:
        namespace.check_nothing_is_left()
        namespace.check_output()
