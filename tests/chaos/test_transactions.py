from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException

from chaos.transactions import Change, Kind, Transaction, TransactionLogs, split_entries
from herdmaster.testing.apache import ApacheZooKeeper
from tests.cli.processes import connect


@pytest.fixture
def znodes(own_apache: ApacheZooKeeper) -> Iterator[KazooClient]:
    client = KazooClient(own_apache.hosts, timeout=4.0)
    client.start(timeout=30)
    yield client
    with contextlib.suppress(KazooException):
        client.stop()
    client.close()


@pytest.fixture
def logs(own_apache: ApacheZooKeeper) -> TransactionLogs:
    return TransactionLogs([own_apache.data_dir])


def changes(transactions: list[Transaction]) -> list[Change]:
    return [change for transaction in transactions for change in transaction.changes]


def test_every_change_is_read_in_its_order(znodes: KazooClient, logs: TransactionLogs) -> None:
    znodes.create("/a", b"data")
    znodes.create("/a/b", ephemeral=True)
    znodes.set("/a", b"more")
    znodes.delete("/a/b")
    found = logs.read()
    assert changes(found) == [
        Change(Kind.CREATED, "/a"),
        Change(Kind.CREATED, "/a/b", is_ephemeral=True),
        Change(Kind.SET, "/a"),
        Change(Kind.DELETED, "/a/b"),
    ]
    assert {each.session for each in found} == {znodes.client_id[0]}
    assert [each.zxid for each in found] == sorted({each.zxid for each in found})


def test_a_transaction_is_read_as_one_and_a_refused_one_as_nothing(znodes: KazooClient, logs: TransactionLogs) -> None:
    accepted = znodes.transaction()
    accepted.create("/a")
    accepted.check("/", -1)
    accepted.create("/b")
    accepted.commit()
    refused = znodes.transaction()
    refused.create("/c")
    refused.delete("/absent")
    refused.commit()
    found = [each.changes for each in logs.read() if each.changes]
    assert found == [(Change(Kind.CREATED, "/a"), Change(Kind.CREATED, "/b"))]


def test_reading_goes_on_where_it_stopped_also_in_the_next_file(
    own_apache: ApacheZooKeeper, znodes: KazooClient, logs: TransactionLogs
) -> None:
    znodes.create("/a")
    last = logs.read()[-1].zxid
    znodes.create("/b")
    assert changes(logs.read(last)) == [Change(Kind.CREATED, "/b")]
    own_apache.restart()  # begins another file
    with connect(own_apache.hosts) as others:  # the first session may not outlive a slow start
        others.ensure_path("/c")
    assert changes(logs.read(last)) == [Change(Kind.CREATED, "/b"), Change(Kind.CREATED, "/c")]
    assert changes(logs.read())[0] == Change(Kind.CREATED, "/a")


def test_the_end_of_a_session_is_read(znodes: KazooClient, logs: TransactionLogs) -> None:
    session = znodes.client_id[0]
    znodes.stop()
    assert [each.session for each in logs.read() if each.ends_session] == [session]


def test_an_entry_that_is_not_all_there_is_not_read(own_apache: ApacheZooKeeper, znodes: KazooClient) -> None:
    znodes.create("/a")
    (log,) = (own_apache.data_dir / "version-2").glob("log.*")
    data = log.read_bytes()[16:].rstrip(b"\0")
    whole = list(split_entries(data))
    assert len(whole) == 2
    assert len(list(split_entries(data[:-1]))) == 1
    assert len(list(split_entries(data + bytes(100)))) == 2


def test_what_only_a_minority_has_is_doubtful(own_apache: ApacheZooKeeper, znodes: KazooClient, tmp_path: Path) -> None:
    znodes.create("/a")
    early, empty = tmp_path / "early", tmp_path / "empty"
    shutil.copytree(own_apache.data_dir, early)
    znodes.create("/b")
    found = TransactionLogs([own_apache.data_dir, early, empty]).read()
    assert [(each.changes[0].path, each.is_doubtful) for each in found if each.changes] == [("/a", False), ("/b", True)]
    assert not any(each.is_doubtful for each in TransactionLogs([own_apache.data_dir]).read())
