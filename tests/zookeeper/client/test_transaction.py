"""Transactions: all or nothing, and what a refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Results
from herdmaster.zookeeper.model import OPEN_ACL, Acl, CreateMode, Id, Stat
from herdmaster.zookeeper.wire.framing import encode_request
from herdmaster.zookeeper.wire.multi import Multi
from tests.zookeeper.client.sessions import client_of, wait_until


async def test_a_transaction_does_all_of_its_operations(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/old", b"1")
        created, numbered, checked, changed, deleted = await (
            client.transaction()
            .create("/new", b"2")
            .create("/n-", None, mode=CreateMode.EPHEMERAL_SEQUENTIAL)
            .check("/old", 0)
            .set("/old", b"3", 0)
            .delete("/old")
            .commit()
        )
        assert created == "/new", "without the namespace"
        assert numbered == "/n-0000000002"
        assert (checked, deleted) == (None, None)
        assert isinstance(changed, Stat)
        assert changed.version == 1
        assert sorted(await client.children("/")) == ["n-0000000002", "new"]


@pytest.mark.parametrize("index", [0, 1, 2])
async def test_a_refused_transaction_does_nothing_and_says_which_operation_failed(server: str, index: int) -> None:
    async with client_of(server) as client:
        transaction = client.transaction()
        for number in range(3):
            if number == index:
                transaction.delete("/missing")
            else:
                transaction.create(f"/{number}")
        with pytest.raises(errors.TransactionFailed) as caught:
            await transaction.commit()
        failure = caught.value
        assert (failure.index, type(failure.error), failure.error.path) == (index, errors.NoNode, "/missing")
        assert str(failure) == f"operation {index} of the transaction: NoNode: /missing"
        assert await client.children("/") == ()


async def test_a_check_fails_on_another_version_and_on_a_missing_znode(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        for path, version, error in (("/a", 1, errors.BadVersion), ("/b", -1, errors.NoNode)):
            with pytest.raises(errors.TransactionFailed) as caught:
                await client.transaction().check(path, version).create("/c").commit()
            assert type(caught.value.error) is error
        await client.transaction().check("/a").create("/c").commit()


async def test_later_operations_see_the_earlier_ones(server: str) -> None:
    async with client_of(server) as client:
        await client.transaction().create("/a").create("/a/b").delete("/a/b").set("/a", b"x", 0).commit()
        assert (await client.get("/a"))[0] == b"x"


async def test_an_empty_transaction_succeeds(server: str) -> None:
    async with client_of(server) as client:
        assert await client.transaction().commit() == ()


async def test_transactions_without_waiting_end_in_order(server: str) -> None:
    async with client_of(server) as client:
        outcomes: list[str] = []

        def note(name: str, results: Results | None, error: Exception | None) -> None:
            outcomes.append(f"{name} {type(error).__name__ if error else results}")

        client.transaction().create("/a").commit_nowait(lambda results, error: note("first", results, error))
        client.transaction().create("/a").commit_nowait(lambda results, error: note("second", results, error))
        client.transaction().delete("/a").commit_nowait(lambda results, error: note("third", results, error))
        assert outcomes == []
        await wait_until(lambda: len(outcomes) == 3)
        assert outcomes == [
            "first ('/a',)",
            "second TransactionFailed",
            "third (None,)",
        ]


async def test_a_transaction_that_is_too_large_is_refused_here(server: str) -> None:
    async with client_of(server) as client:
        transaction = client.transaction()
        for number in range(11):
            transaction.create(f"/{number}", bytes(100_000))
        with pytest.raises(errors.RequestTooLarge):
            await transaction.commit()
        with pytest.raises(errors.RequestTooLarge):
            transaction.commit_nowait(lambda _results, _error: None)
        assert await client.children("/") == ()


names = st.text("abé漢", min_size=1, max_size=9)
paths = st.lists(names, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
ids = st.builds(Id, st.text("aé漢", max_size=9), st.text("aé漢", max_size=9))
acls = st.just(OPEN_ACL) | st.lists(st.builds(Acl, st.integers(0, 31), ids), max_size=3).map(tuple)


@pytest.mark.long
@given(st.lists(st.tuples(st.sampled_from("ctdsk"), paths, st.none() | st.binary(max_size=50), acls), max_size=6))
def test_the_size_is_an_upper_estimate_of_the_request(
    operations: list[tuple[str, str, bytes | None, tuple[Acl, ...]]],
) -> None:
    transaction = Client("127.0.0.1/prod").transaction()
    for kind, path, data, acl in operations:
        match kind:
            case "c":
                transaction.create(path, data, acl=acl)
            case "t":
                transaction.create(path, data, acl=acl, ttl=1.0)
            case "d":
                transaction.delete(path)
            case "s":
                transaction.set(path, data)
            case _:
                transaction.check(path)
    frame = encode_request(1, Multi(tuple(transaction._operations)))
    header_and_end = 12 + 9
    assert len(frame) - header_and_end <= transaction.size <= len(frame) + 8 * len(transaction)
    assert len(transaction) == len(operations)
