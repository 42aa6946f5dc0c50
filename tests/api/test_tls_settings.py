"""TLS settings of a Herd: from its arguments, from the environment, and for the processes that it starts."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from herdmaster import TLS, ConfigurationError, Herd, PasswordFile
from herdmaster.api import direction
from herdmaster.api.direction import Target
from herdmaster.api.internals import core_of
from herdmaster.api.security import VARIABLES, GivenSecurity, environment_security, export, read_tls
from herdmaster.zookeeper.client import Security
from herdmaster.zookeeper.errors import InvalidTls
from tests.authority import Authority

ALL = TLS(
    ca="ca.pem",
    certificate="own.pem",
    key="own.key",
    key_password=PasswordFile("own.pass"),
    server_name="zk",
    verify_host_name=False,
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HERD_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("tls", [None, TLS(), TLS(ca="ca.pem"), TLS(certificate="own.pem", key="own.key"), ALL])
def test_what_is_exported_is_read_by_the_next_process(tls: TLS | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HERD_TLS_CA": "old.pem"})
    export(GivenSecurity(tls))
    assert environment_security() == Security(tls)


def test_nothing_given_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERD_TLS_CA", "ca.pem")
    export(GivenSecurity())
    assert environment_security().tls == TLS(ca="ca.pem")
    assert GivenSecurity().is_empty
    assert not GivenSecurity(None).is_empty


def test_what_is_given_completes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERD_TLS_CA", "ca.pem")
    monkeypatch.setenv("HERD_TLS_KEY", "variable.key")
    found = read_tls({"certificate": "own.pem", "key": "own.key"}, enabled=True)
    assert found == TLS(ca="ca.pem", certificate="own.pem", key="own.key")
    monkeypatch.setenv("HERD_TLS", "0")
    assert read_tls({}) is None


@pytest.mark.parametrize("value", ["ca.pem", True, {}])
def test_settings_of_another_type_are_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"it takes herdmaster\.TLS"):
        Herd("zk:1", tls=value)  # type: ignore[arg-type]  # the mistake under test


def test_a_file_that_cannot_be_used_is_told_to_the_caller(tmp_path: Path) -> None:
    herd = Herd("127.0.0.1:1", tls=TLS(ca=tmp_path / "missing.pem"))
    with pytest.raises(InvalidTls, match=r"missing\.pem cannot be read"):
        herd.submit_raw(b"x")
    with pytest.raises(InvalidTls, match=r"missing\.pem cannot be read"):
        herd.future("task-1")


def test_a_direction_has_its_own_security() -> None:
    """So a test that directs a Herd to a plain server needs no certificates."""
    herd = Herd("zk:1", tls=TLS(ca="ca.pem"))
    core = core_of(herd)
    assert core.target == Target("zk:1", Security(TLS(ca="ca.pem")))
    with herd.directed_to("localhost:9"):
        assert core.target == Target("localhost:9")
    with herd.directed_to("localhost:9", tls=ALL):
        assert core.target == Target("localhost:9", Security(ALL))
    assert core.target.security.tls == TLS(ca="ca.pem")


@pytest.mark.long
def test_a_direction_is_inherited_with_its_files(tmp_path: Path) -> None:
    """The process may have another working directory."""
    program = "from herdmaster import Herd; from herdmaster.api.internals import core_of; print(core_of(Herd()).target)"
    began = direction.begin(Target("localhost:9", Security(ALL)))
    try:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    finally:
        direction.end(began)
    here = Path.cwd()
    inherited = TLS(
        ca=str(here / "ca.pem"),
        certificate=str(here / "own.pem"),
        key=str(here / "own.key"),
        key_password=PasswordFile(str(here / "own.pass")),
        server_name="zk",
        verify_host_name=False,
    )
    assert done.stdout.strip() == repr(Target("localhost:9", Security(inherited)))


@pytest.mark.parametrize("name", ["ca", "certificate", "key", "key_password_file"])
def test_a_file_that_cannot_be_used_is_named_with_its_variable(
    name: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    encrypted = authority.issue("encrypted", password="pw") if name == "key_password_file" else authority.client
    good = {"ca": authority.ca, "certificate": encrypted.certificate, "key": encrypted.key}
    for other, path in good.items():
        monkeypatch.setenv(VARIABLES[other], str(path))
    for path, reason in ((tmp_path / "missing.pem", "cannot be read: no such file"), (empty, "")):
        monkeypatch.setenv(VARIABLES[name], str(path))
        with pytest.raises(InvalidTls) as caught:
            environment_security().check()
        # An empty password is a wrong one, for the key.
        shown = "key" if name == "key_password_file" and path == empty else name
        assert f"{path if shown == name else good[shown]} (${VARIABLES[shown]})" in str(caught.value)
        assert reason in str(caught.value)
