"""No password stands in a repr, a log line, an encoding, or a traceback that shows the local variables."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from herdmaster import Herd
from herdmaster.api.auth import read_auth
from herdmaster.cli.sasl_users import read_users
from herdmaster.roles.shared.system import System
from herdmaster.testing.ports import free_ports
from herdmaster.zookeeper.client import Client, Digest, Kerberos, Sasl, Security
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.settings import Access
from herdmaster.zookeeper.wire.records import Auth, SaslReply
from herdmaster.zookeeper.wire.records import Sasl as SaslRequest

MARKER = "x5Marker"
SOURCE = f"{Path(__file__).parents[3]}/src/"


def locals_of(error: BaseException) -> str:
    """The error and all that led to it, with the local variables of our own frames."""
    parts = []
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += [each.__cause__, each.__context__]
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        ours = [frame for frame in frames if frame.f_code.co_filename.startswith(SOURCE)]
        parts += [repr(each), *(_shown(value) for frame in ours for value in frame.f_locals.items())]
    return "\n".join(parts)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except AttributeError:  # an object that is being made
        return ""


def credentials() -> list[Digest | Sasl]:
    return [kind("al", source) for kind in (Digest, Sasl) for source in (MARKER, lambda: MARKER)]


@pytest.mark.parametrize("auth", credentials(), ids=repr)
def test_no_repr_and_no_encoding_shows_a_password(auth: Digest | Sasl) -> None:
    security = Security(auth=(auth,))
    holders = (auth, security, System(security=security), Herd(auth=auth), Secret(MARKER.encode()), auth.load())
    for holder in holders:
        assert MARKER not in f"{holder!r} {holder} {vars(holder) if hasattr(holder, '__dict__') else ''}"
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps, copy.deepcopy):
        for holder in (auth, security):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
                encode(holder)
            assert MARKER not in locals_of(caught.value)


def test_no_record_of_the_wire_shows_what_it_carries() -> None:
    for record in (Auth(0, "digest", MARKER.encode()), SaslRequest(MARKER.encode()), SaslReply(MARKER.encode())):
        assert MARKER not in repr(record)


def _spoilt(folder: Path, content: str) -> Path:
    path = folder / "spoilt"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    "fail",
    [
        lambda _: Digest("a:b", MARKER),
        lambda _: Sasl("al", MARKER * 1000),
        lambda _: Sasl("al", MARKER.encode()),  # type: ignore[arg-type]  # the mistake
        lambda _: read_auth({}, {"sasl": Secret(MARKER.encode())}),
        lambda _: read_auth({}, {"digest": Secret(f":{MARKER}".encode())}),
        lambda folder: Digest.from_file(_spoilt(folder, f"{MARKER}\n")).load(),
        lambda folder: Digest.from_file(_spoilt(folder, f"al:{MARKER}\n{MARKER}")).load(),
        lambda folder: Sasl("al", _spoilt(folder, MARKER * 1000)).load(),
        lambda _: Sasl("al", lambda: [MARKER]).load(),  # type: ignore[arg-type, return-value]  # the mistake
        lambda folder: read_users(str(_spoilt(folder, f"al:{MARKER}\n{MARKER}\n"))),
    ],
)
def test_no_traceback_of_a_mistake_shows_a_password(fail: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        fail(tmp_path)
    assert MARKER not in locals_of(caught.value)


async def _add(client: Client) -> None:
    async with client:
        await client.close()
        await client.add_credential("digest", f"al:{MARKER}".encode())


async def _refuse(client: Client) -> None:
    async with client:
        await client.add_credential("nonsense", f"al:{MARKER}".encode())


@pytest.mark.long
@pytest.mark.parametrize("auth", [*credentials(), Kerberos()], ids=repr)
@pytest.mark.parametrize("act", [Client.open, _add, _refuse])
@pytest.mark.parametrize("kind", ["another password", "no sasl", "no server"])
async def test_no_failing_session_logs_or_raises_a_password(
    auth: Digest | Sasl | Kerberos,
    act: Callable[[Client], Awaitable[object]],
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asyncio.get_running_loop().set_debug(True)
    caplog.set_level(logging.DEBUG)
    users = {} if kind == "no sasl" else {"al": Secret(b"another")}
    (port,) = free_ports(1)
    access = Access(users, () if kind == "no sasl" else ("sasl",))
    async with EmbeddedServer(access=access, min_session_timeout=300) as server:
        hosts = f"127.0.0.1:{port}" if kind == "no server" else server.hosts
        client = Client(hosts, session_timeout=0.4, connect_timeout=0.1, security=Security(auth=(auth,)))
        try:
            await act(client)
        except Exception as error:  # noqa: BLE001 - whatever it is
            shown = locals_of(error)
        else:
            shown = ""
            await client.close()
    assert MARKER not in shown + caplog.text
