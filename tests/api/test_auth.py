"""Credentials of a Herd: from its argument, from the environment, and in the processes that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster import Digest, Herd, Kerberos, Sasl
from herdmaster.api import direction
from herdmaster.api.auth import VARIABLES, auth_of, environment_auth, export_auth, records_of
from herdmaster.api.direction import Target
from herdmaster.api.internals import core_of
from herdmaster.api.security import VARIABLES as TLS_VARIABLES
from herdmaster.api.security import environment_security
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import Credential, Security
from herdmaster.zookeeper.errors import CredentialUnavailable


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")


def auth_in_force(herd: Herd) -> tuple[Credential, ...]:
    return core_of(herd).target.security.auth


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ()),
        ({"digest": "al:p:w"}, (Digest("al", "p:w"),)),
        ({"digest_file": "/f"}, (Digest.from_file("/f"),)),
        ({"digest": "al:pw", "digest_file": "/f"}, (Digest.from_file("/f"),)),
        ({"sasl": "al:pw", "digest": "di:pw"}, (Digest("di", "pw"), Sasl("al", "pw"))),
        ({"sasl_file": "/f"}, (Sasl.from_file("/f"),)),
        ({"kerberos": "1"}, (Kerberos(),)),
        ({"kerberos_principal": "w@R", "kerberos_keytab": "/k"}, (Kerberos("w@R", keytab="/k"),)),
        ({"kerberos_service": "zk/zk.example.org"}, (Kerberos(service="zk", host="zk.example.org"),)),
        ({"kerberos": "0", "kerberos_keytab": "/k"}, ()),
    ],
)
def test_the_environment_says_who_this_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[Credential, ...]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(VARIABLES[name], value)
    assert environment_auth() == expected
    assert auth_in_force(Herd()) == expected
    assert auth_in_force(Herd(auth=())) == ()
    assert auth_in_force(Herd(auth=Sasl("bo", "pw"))) == (Sasl("bo", "pw"),)


@pytest.mark.parametrize(
    "variables",
    [{"digest": "marker"}, {"sasl": ":marker"}, {"kerberos": "yes"}, {"kerberos": "1", "sasl": "al:marker"}],
)
def test_a_variable_that_cannot_work_is_named_and_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(VARIABLES[name], value)
    with pytest.raises(ConfigurationError) as caught:
        environment_auth()
    assert "marker" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"marker\n"], ids=["missing", "empty", "malformed"])
@pytest.mark.parametrize("name", ["digest_file", "sasl_file", "kerberos_keytab"])
def test_a_file_that_cannot_be_used_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes | None
) -> None:
    pytest.importorskip("gssapi")
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv(VARIABLES[name], str(file))
    (credential,) = environment_auth()
    with pytest.raises(CredentialUnavailable) as caught:
        credential.load() if isinstance(credential, Digest) else credential.converse("localhost").start()
    assert f"{file} (${VARIABLES[name]})" in str(caught.value)
    assert "marker" not in str(caught.value)


@pytest.mark.parametrize("auth", ["al:marker", b"marker", [("digest", b"marker")], [Sasl("al", "x"), Kerberos()]])
def test_an_argument_that_cannot_work_is_refused_and_not_shown(auth: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Herd(auth=auth)  # type: ignore[arg-type]  # the mistake
    assert "marker" not in str(caught.value)


def test_what_names_files_goes_on_to_other_processes_and_passwords_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    auth = (Digest.from_file(file), Digest("al", file), Sasl.from_file(file), Kerberos("w", keytab=file, host="h"))
    records = records_of(auth)
    assert records is not None
    assert auth_of(records) == auth
    assert records_of((Digest("al", "pw"),)) is None
    assert records_of((Sasl("al", lambda: "pw"),)) is None
    whole = (Digest.from_file(file), Kerberos("w", keytab=file, service="zk", host="h"))
    monkeypatch.setenv(VARIABLES["sasl"], "al:pw")
    export_auth(whole)
    assert environment_auth() == whole


class TestDirections:
    def test_what_the_environment_says_can_be_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = {"digest_file": "/d", "kerberos_principal": "w", "kerberos_keytab": "/k", "kerberos_service": "zk"}
        for name, value in given.items():
            monkeypatch.setenv(VARIABLES[name], value)
        for name, variable in TLS_VARIABLES.items():
            monkeypatch.setenv(variable, f"/{name}")
        security = environment_security()
        began = direction.begin(Target("localhost:9", security))
        try:
            assert auth_of(records_of(security.auth) or []) == security.auth
            assert '"/server_name"' in os.environ[direction.VARIABLE]
        finally:
            direction.end(began)

    @pytest.fixture
    def inherited(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """This process reads its directions from the environment, as one that was started now."""
        yield
        monkeypatch.setattr(direction, "_is_inherited", True)
        direction._directions.clear()
        direction._export()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (Sasl.from_file("/f"), (Sasl.from_file("/f"),)),
            (Digest("al", "pw"), (Digest("own", "pw"),)),
            ((), ()),
        ],
        ids=["file", "password", "none"],
    )
    @pytest.mark.usefixtures("inherited")
    def test_a_process_that_is_started_authenticates_as_the_file_or_as_its_own_herd_says(
        self, monkeypatch: pytest.MonkeyPatch, given: Credential | tuple[()], expected: tuple[Credential, ...]
    ) -> None:
        herd = Herd("127.0.0.1:1", auth=Digest("own", "pw"))
        monkeypatch.setattr(sys.modules[__name__], "held", herd, raising=False)
        auth: tuple[Credential, ...] = (given,) if isinstance(given, Digest | Sasl) else ()
        core_of(herd).direct_to(Target("127.0.0.1:2", Security(auth=auth)), f"{__name__}:held")
        assert auth_in_force(herd) == auth
        direction._directions.clear()
        monkeypatch.setattr(direction, "_is_inherited", False)
        assert core_of(herd).target.hosts == "127.0.0.1:2"
        assert auth_in_force(herd) == expected

    def test_a_herd_that_is_directed_elsewhere_by_a_test_has_no_credentials_unless_it_gets_some(self) -> None:
        herd = Herd("127.0.0.1:1", auth=Digest("own", "pw"))
        with herd.directed_to("127.0.0.1:2"):
            assert auth_in_force(herd) == ()
        with herd.directed_to("127.0.0.1:2", auth=Digest("al", "pw")):
            assert auth_in_force(herd) == (Digest("al", "pw"),)
        assert auth_in_force(herd) == (Digest("own", "pw"),)
