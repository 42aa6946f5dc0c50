"""The files of TLS: what is wrong with one is said by its name, whatever OpenSSL says."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from herdmaster import TLS, ConfigurationError, PasswordFile
from herdmaster.zookeeper.errors import InvalidTls
from herdmaster.zookeeper.tls import client_context, server_context
from tests.authority import Authority

pytestmark = pytest.mark.long  # the first test makes an authority, with one process for each file

PASSWORD = "sesame-4711"


@pytest.fixture(scope="module")
def encrypted(authority: Authority) -> TLS:
    return authority.issue("encrypted", password=PASSWORD).tls()


def fault_of(tls: TLS, make: Callable[[TLS], object] = client_context) -> str:
    with pytest.raises(InvalidTls) as caught:
        make(tls)
    assert isinstance(caught.value, ValueError)
    assert PASSWORD not in repr(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("field", ["ca", "certificate", "key"])
def test_a_missing_file_is_named(authority: Authority, tmp_path: Path, field: str) -> None:
    missing = tmp_path / "missing.pem"
    message = fault_of(authority.client.tls(**{field: missing}))
    assert message.endswith(f"file {missing} cannot be read: no such file or directory")


@pytest.mark.parametrize("field", ["ca", "certificate", "key"])
def test_a_file_of_another_kind_is_named(authority: Authority, tmp_path: Path, field: str) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("no PEM")
    message = fault_of(authority.client.tls(**{field: other}))
    assert f"file {other} has no " in message


def test_a_folder_in_place_of_a_file_is_named(authority: Authority, tmp_path: Path) -> None:
    assert f"CA file {tmp_path} cannot be read" in fault_of(authority.client.tls(ca=tmp_path))


def test_a_key_of_another_certificate_is_named(authority: Authority) -> None:
    wrong = authority.client.tls(key=authority.server.key)
    message = fault_of(wrong)
    assert message == f"key file {authority.server.key} is not the key of the certificate in {wrong.certificate}"


def test_an_encrypted_key_needs_its_password(encrypted: TLS) -> None:
    assert f"key file {encrypted.key} is encrypted: give its password" == fault_of(encrypted)


def test_a_wrong_password_is_no_fault_of_the_certificate(authority: Authority) -> None:
    tls = authority.issue("guessed", password=PASSWORD).tls(key_password=lambda: "guess")
    assert f"key file {tls.key} cannot be decrypted: its password is wrong" == fault_of(tls)


@pytest.mark.parametrize("password", [None, 7, "x" * 2000])
def test_a_password_that_is_no_text_is_refused(authority: Authority, password: object, encrypted: TLS) -> None:
    tls = TLS(certificate=encrypted.certificate, key=encrypted.key, key_password=lambda: password)  # type: ignore[arg-type,return-value]  # the mistake under test
    assert "is not text of at most 1024 bytes" in fault_of(tls)


def test_a_password_comes_from_a_file_or_a_callable(encrypted: TLS, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    for password in (PasswordFile(file), lambda: PASSWORD, PASSWORD.encode):
        tls = TLS(certificate=encrypted.certificate, key=encrypted.key, key_password=password)
        client_context(tls)
        assert PASSWORD not in repr(tls)
    missing = TLS(certificate=encrypted.certificate, key=encrypted.key, key_password=PasswordFile(tmp_path / "none"))
    assert f"key password file {tmp_path / 'none'} cannot be read" in fault_of(missing)


@pytest.mark.parametrize("kind", [OSError, ConfigurationError, ssl.SSLError])
def test_what_a_password_callable_raises_is_its_own(encrypted: TLS, kind: type[Exception]) -> None:
    def refuse() -> str:
        raise kind("the vault is sealed")

    message = fault_of(TLS(certificate=encrypted.certificate, key=encrypted.key, key_password=refuse))
    assert f"the password of key file {encrypted.key} is not available: {kind.__name__}: " in message
    assert "the vault is sealed" in message


def test_certificate_and_key_may_share_a_file(authority: Authority, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(authority.client.certificate.read_bytes() + authority.client.key.read_bytes())
    client_context(TLS(certificate=both))
    assert "has no private key" in fault_of(TLS(certificate=authority.client.certificate))


def test_a_key_without_a_certificate_is_refused(authority: Authority) -> None:
    assert "is given without a certificate" in fault_of(TLS(key=authority.client.key))
    assert "a server needs a certificate" in fault_of(TLS(), server_context)


def test_the_oldest_version_is_1_2_and_names_are_verified(authority: Authority) -> None:
    context = client_context(authority.client.tls())
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname
    assert not client_context(authority.client.tls(verify_host_name=False)).check_hostname
