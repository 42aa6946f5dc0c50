"""kazoo, an independent client, with its recipes against the embedded server."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
)
from kazoo.recipe.barrier import Barrier, DoubleBarrier
from kazoo.recipe.counter import Counter
from kazoo.recipe.election import Election
from kazoo.recipe.lock import Lock, ReadLock, Semaphore, WriteLock
from kazoo.recipe.party import Party, ShallowParty
from kazoo.recipe.queue import LockingQueue, Queue
from kazoo.security import make_acl, make_digest_acl

from herdmaster.zookeeper.server import EmbeddedServer
from tests.zookeeper.server.threaded import ServerThread

PATIENCE = 30.0

Connect = Callable[..., KazooClient]


@pytest.fixture(scope="module", params=["memory", "disk"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    folder = tmp_path_factory.mktemp("data") if request.param == "disk" else None
    with ServerThread(EmbeddedServer(data_dir=folder, min_session_timeout=500)) as thread:
        yield thread


@pytest.fixture
def connect(server: ServerThread, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes started clients in a namespace of this test's own."""
    clients: list[KazooClient] = []
    namespace = f"/{request.node.name}"

    def make(**options: Any) -> KazooClient:
        client = KazooClient(server.hosts, **options)
        client.start(PATIENCE)
        clients.append(client)
        client.ensure_path(namespace)
        client.chroot = namespace
        return client

    yield make
    for client in clients:
        client.stop()
        client.close()


@pytest.fixture
def client(connect: Connect) -> KazooClient:
    return connect()


def in_threads(*actions: Callable[[], None]) -> None:
    """Runs them side by side; an error in one is an error of the test."""
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def run(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.put(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if not errors.empty():
        raise errors.get()


def test_create_get_set_and_delete(client: KazooClient) -> None:
    assert client.create("/a", b"one") == "/a"
    data, stat = client.get("/a")
    assert (data, stat.version) == (b"one", 0)
    assert client.set("/a", b"two", version=0).version == 1
    with pytest.raises(BadVersionError):
        client.set("/a", b"three", version=0)
    with pytest.raises(NodeExistsError):
        client.create("/a")
    with pytest.raises(NoNodeError):
        client.create("/none/x")
    client.create("/a/b")
    with pytest.raises(NotEmptyError):
        client.delete("/a")
    client.delete("/a", recursive=True)
    assert client.exists("/a") is None


def test_children_and_sequences(client: KazooClient) -> None:
    names = [client.create("/s-", sequence=True) for _ in range(3)]
    assert names == ["/s-0000000000", "/s-0000000001", "/s-0000000002"]
    children, stat = client.get_children("/", include_data=True)
    assert sorted(children) == [name[1:] for name in names]
    assert stat.numChildren == 3
    assert client.create("/deep/down/here", makepath=True) == "/deep/down/here"
    path, stat = client.create("/with-stat", b"123", include_data=True)
    assert (path, stat.dataLength) == ("/with-stat", 3)


def test_transactions(client: KazooClient) -> None:
    transaction = client.transaction()
    transaction.create("/a", b"1")
    transaction.create("/a/b", b"2", sequence=True)
    transaction.set_data("/a", b"3")
    transaction.check("/a", version=1)
    assert transaction.commit()[:2] == ["/a", "/a/b0000000000"]
    failing = client.transaction()
    failing.delete("/a/b0000000000")
    failing.check("/a", version=9)
    results = failing.commit()
    assert isinstance(results[0], RolledBackError)
    assert isinstance(results[1], BadVersionError)
    assert client.exists("/a/b0000000000")


def test_acls(connect: Connect) -> None:
    owner = connect(auth_data=[("digest", "al:pw")])
    stranger = connect()
    owner.create("/secret", b"x", acl=[make_digest_acl("al", "pw", all=True)])
    assert owner.get("/secret")[0] == b"x"
    with pytest.raises(NoAuthError):
        stranger.get("/secret")
    stranger.add_auth("digest", "al:pw")
    assert stranger.get("/secret")[0] == b"x"
    acls, stat = owner.get_acls("/secret")
    assert (acls[0].id.scheme, stat.aversion) == ("digest", 0)
    owner.set_acls("/secret", [make_digest_acl("bo", "pw", all=True)])
    with pytest.raises(NoAuthError):
        owner.get("/secret")
    with pytest.raises(InvalidACLError):
        stranger.create("/bad", acl=[make_acl("digest", "no colon", all=True)])


def test_ephemerals_go_with_their_session(connect: Connect) -> None:
    owner, other = connect(), connect()
    owner.create("/e", ephemeral=True)
    gone = threading.Event()
    assert other.exists("/e", watch=lambda event: gone.set())
    owner.stop()
    assert gone.wait(PATIENCE)
    assert other.exists("/e") is None


def test_an_expired_session_is_told_and_comes_back_as_a_new_one(server: ServerThread, connect: Connect) -> None:
    client = connect()
    lost, back = threading.Event(), threading.Event()

    def listen(state: str) -> None:
        if state == KazooState.LOST:
            lost.set()
        elif state == KazooState.CONNECTED and lost.is_set():
            back.set()

    client.add_listener(listen)
    session = client.client_id[0]
    server.run(lambda: server.server.expire_session(session))
    assert lost.wait(PATIENCE)
    assert back.wait(PATIENCE)
    assert client.client_id[0] != session


def test_a_dropped_connection_keeps_the_session(server: ServerThread, connect: Connect) -> None:
    client = connect()
    client.create("/e", ephemeral=True)
    session = client.client_id[0]
    server.run(lambda: server.server.drop_connections(session))
    assert client.retry(client.exists, "/e").ephemeralOwner == session
    assert client.client_id[0] == session


def test_watches(client: KazooClient) -> None:
    events: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def tell(event: Any) -> None:
        events.put((event.type, event.path))

    assert client.exists("/n", watch=tell) is None
    client.create("/n")
    assert events.get(timeout=PATIENCE) == ("CREATED", "/n")
    client.get("/n", watch=tell)
    client.set("/n", b"x")
    assert events.get(timeout=PATIENCE) == ("CHANGED", "/n")
    client.get_children("/n", watch=tell)
    client.create("/n/c")
    assert events.get(timeout=PATIENCE) == ("CHILD", "/n")
    client.get("/n/c", watch=tell)
    client.delete("/n/c")
    assert events.get(timeout=PATIENCE) == ("DELETED", "/n/c")


def test_children_watch_and_data_watch(client: KazooClient) -> None:
    children: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    data: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    client.create("/p", b"0")
    client.ChildrenWatch("/p", lambda names: children.put(sorted(names)))
    client.DataWatch("/p", lambda value, stat: data.put(value))
    assert children.get(timeout=PATIENCE) == []
    assert data.get(timeout=PATIENCE) == b"0"
    client.create("/p/a")
    assert children.get(timeout=PATIENCE) == ["a"]
    client.create("/p/b")
    assert children.get(timeout=PATIENCE) == ["a", "b"]
    client.set("/p", b"1")
    assert data.get(timeout=PATIENCE) == b"1"
    # One at a time: a ChildrenWatch that finds its znode gone by then ends without a call.
    client.delete("/p/a")
    assert children.get(timeout=PATIENCE) == ["b"]
    client.delete("/p/b")
    assert children.get(timeout=PATIENCE) == []
    client.delete("/p")
    assert data.get(timeout=PATIENCE) is None


def test_a_lock_is_held_by_one(connect: Connect) -> None:
    held: list[int] = []
    most: list[int] = []

    def worker(client: KazooClient) -> None:
        for _ in range(5):
            with Lock(client, "/lock"):
                held.append(1)
                most.append(len(held))
                held.pop()

    clients = [connect() for _ in range(3)]
    in_threads(*(lambda client=client: worker(client) for client in clients))
    assert most == [1] * 15


def test_a_lock_of_an_expired_session_goes_to_the_next(server: ServerThread, connect: Connect) -> None:
    first, second = connect(), connect()
    assert Lock(first, "/lock").acquire(timeout=PATIENCE)
    waiting = Lock(second, "/lock")
    assert not waiting.acquire(blocking=False)
    session = first.client_id[0]
    server.run(lambda: server.server.expire_session(session))
    assert waiting.acquire(timeout=PATIENCE)


def test_read_and_write_locks_and_a_semaphore(connect: Connect) -> None:
    first, second = connect(), connect()
    reading, also_reading = ReadLock(first, "/rw"), ReadLock(second, "/rw")
    assert reading.acquire(timeout=PATIENCE)
    assert also_reading.acquire(timeout=PATIENCE)
    assert not WriteLock(second, "/rw").acquire(blocking=False)
    reading.release()
    also_reading.release()
    assert WriteLock(second, "/rw").acquire(timeout=PATIENCE)
    one, two = Semaphore(first, "/sem", max_leases=1), Semaphore(second, "/sem", max_leases=1)
    assert one.acquire(timeout=PATIENCE)
    assert not two.acquire(blocking=False)
    one.release()
    assert two.acquire(timeout=PATIENCE)


def test_an_election_makes_every_candidate_leader_in_turn(connect: Connect) -> None:
    leaders: list[str] = []
    elections = [Election(connect(), "/election", name) for name in ("a", "b", "c")]
    in_threads(
        *(
            lambda election=election: election.run(lambda: leaders.append(election.lock.data.decode()))
            for election in elections
        )
    )
    assert sorted(leaders) == ["a", "b", "c"]


def test_a_queue_gives_every_item_once_in_order(connect: Connect) -> None:
    producer, consumer = Queue(connect(), "/queue"), Queue(connect(), "/queue")
    for index in range(10):
        producer.put(str(index).encode())
    producer.put(b"urgent", priority=1)
    assert [consumer.get() for _ in range(11)] == [b"urgent", *(str(index).encode() for index in range(10))]
    assert consumer.get() is None


def test_a_locking_queue_gives_an_item_to_one_consumer_until_it_is_consumed(connect: Connect) -> None:
    producer = LockingQueue(connect(), "/queue")
    producer.put_all([b"a", b"b"])
    consumer = LockingQueue(connect(), "/queue")
    taken = []
    for _ in range(2):
        taken.append(consumer.get(timeout=PATIENCE))
        assert consumer.consume()
    assert taken == [b"a", b"b"]


def test_a_counter_counts_every_increment(connect: Connect) -> None:
    clients = [connect() for _ in range(3)]

    def count(client: KazooClient) -> None:
        counter = Counter(client, "/counter")
        for _ in range(10):
            counter += 1

    in_threads(*(lambda client=client: count(client) for client in clients))
    assert Counter(clients[0], "/counter").value == 30


def test_a_barrier_holds_until_it_is_removed(connect: Connect) -> None:
    keeper, waiter = Barrier(connect(), "/barrier"), Barrier(connect(), "/barrier")
    keeper.create()
    passed = threading.Event()

    def wait() -> None:
        assert waiter.wait(PATIENCE)
        passed.set()

    def lift() -> None:
        assert not passed.wait(0.1)
        keeper.remove()

    in_threads(wait, lift)
    assert passed.is_set()


def test_a_double_barrier_lets_all_in_and_out_together(connect: Connect) -> None:
    inside: list[int] = []
    seen: list[int] = []

    def join(client: KazooClient) -> None:
        barrier = DoubleBarrier(client, "/double", 3)
        barrier.enter()
        inside.append(1)
        deadline = time.monotonic() + PATIENCE
        while len(inside) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        seen.append(len(inside))
        barrier.leave()

    clients = [connect() for _ in range(3)]
    in_threads(*(lambda client=client: join(client) for client in clients))
    assert seen == [3, 3, 3]


@pytest.mark.parametrize("kind", [Party, ShallowParty])
def test_a_party_knows_its_members(connect: Connect, kind: type[Party]) -> None:
    first, second = kind(connect(), "/party", "first"), kind(connect(), "/party", "second")
    first.join()
    second.join()
    assert sorted(first) == ["first", "second"]
    first.leave()
    assert list(second) == ["second"]


def test_the_version_is_understood(client: KazooClient) -> None:
    assert client.server_version()[0] == 3
    assert b"Mode: standalone" in client.command(b"stat").encode()
