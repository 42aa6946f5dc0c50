"""The codec that encrypts; the one that pickles is tested with the hints of types."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.client import KazooClient

from herdmaster import ConfigurationError, Herd, NotSerializable
from herdmaster.codecs import CloudpickleCodec, EncryptedCodec
from herdmaster.errors import BadPayload
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.running import RunningRoles
from tests.api import tasks

OLD, NEW = b"topsecret" * 3 + b"older", b"topsecret" * 3 + b"newer"
CODEC = EncryptedCodec({"new": NEW, "old": OLD})
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.long
@given(JSON)
def test_what_is_encrypted_comes_back(value: object) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value


def test_the_same_value_is_never_written_alike_and_nothing_of_it_can_be_read() -> None:
    written = {CODEC.encode("a plain text") for _ in range(100)}
    assert len(written) == 100
    assert not any(b"plain" in data or b"topsecret" in data for data in written)


def test_keys_rotate() -> None:
    before, after = EncryptedCodec({"old": OLD}), EncryptedCodec({"new": NEW})
    assert CODEC.decode(before.encode(5)) == after.decode(CODEC.encode(5)) == 5
    with pytest.raises(ValueError, match="not encrypted with one of the keys new"):
        after.decode(before.encode(5))


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 10, 16, 20, -1])
def test_what_is_cut_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"not encrypted with one of|was changed"):
        CODEC.decode(CODEC.encode("x" * 10)[:cut])


@pytest.mark.long
@given(st.integers(0, 60), st.integers(1, 255))
def test_what_is_changed_is_refused(at: int, by: int) -> None:
    data = bytearray(CODEC.encode("x" * 40))
    data[at] ^= by
    with pytest.raises(ValueError, match=r"not encrypted with one of|was changed"):
        CODEC.decode(bytes(data))


def test_another_secret_and_another_inner_codec_cannot_read_it() -> None:
    with pytest.raises(ValueError, match="or new is another secret"):
        EncryptedCodec({"new": OLD}).decode(CODEC.encode(5))
    with pytest.raises(ValueError, match="was changed"):
        EncryptedCodec({"new": NEW}, CloudpickleCodec(unsigned=True)).decode(CODEC.encode(5))


def test_it_shows_no_secret_and_refuses_what_is_none() -> None:
    assert repr(CODEC) == "<EncryptedCodec aes-gcm, <encryption keys new, old>>"
    with pytest.raises(ConfigurationError, match="the encryption key a has 33 bytes: it takes exactly 32") as caught:
        EncryptedCodec({"a": NEW + b"x"})
    assert "topsecret" not in str(caught.value)


def test_an_inner_codec_that_needs_signing_needs_it_here_too() -> None:
    codec = EncryptedCodec({"a": NEW}, CloudpickleCodec())
    assert codec.name == "aes-gcm+cloudpickle"
    assert codec.decode(codec.encode({1, 2})) == {1, 2}
    with pytest.raises(ConfigurationError, match=r"EncryptedCodec.* reads signed tasks and results only"):
        Herd("127.0.0.1:1", codec=codec).submit_call("m:f")


def test_without_the_package_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigurationError, match=r"install herdmaster\[crypto\]"):
        EncryptedCodec({"a": NEW})


@pytest.mark.long
def test_arguments_and_results_are_encrypted_between_a_client_and_a_worker(
    namespace: str, shared_zookeeper: ChildServer
) -> None:
    seen: list[bytes] = []
    settings = WorkerSettings(2.0, slots=4, drain_timeout=5.0)
    worker = Worker(namespace, tasks.registered(), settings, codecs={CODEC.name: CODEC})
    zk = KazooClient(shared_zookeeper.hosts)
    zk.start()
    root = namespace[namespace.index("/") :]
    with Herd(namespace, codec=EncryptedCodec({"old": OLD, "new": NEW})) as herd:
        echo = herd.task(tasks.echo).options(keep_outcome=600)
        future = echo.submit("a plain text")
        seen.append(zk.get(f"{root}/tasks/{future.name}")[0])
        with RunningRoles(worker, Master(namespace, MasterSettings(2.0))):
            assert future.result(20) == "a plain text"
            seen.append(zk.get(f"{root}/status/{future.name}")[0])
            assert list(echo.map(["plain"] * 5, chunksize=2)) == ["plain"] * 5
            with pytest.raises(NotSerializable, match="the codec aes-gcm"):
                echo.submit(object())
            with (
                Herd(namespace, codec=EncryptedCodec({"old": NEW})) as other,
                pytest.raises(BadPayload, match="changed"),
            ):
                other.task(tasks.echo).submit(5).result(20)
    zk.stop()
    zk.close()
    assert all(b'"codec":"aes-gcm"' in data and b"plain" not in data for data in seen)
