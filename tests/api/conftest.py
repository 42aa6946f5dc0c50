"""A namespace with a master and a worker in it for most tests, and one without for those that need quiet."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest
from kazoo.client import KazooClient

from herdmaster import Future, Herd
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.running.registration import Function, Registration
from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.ports import free_ports
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes

SESSION_TIMEOUT = 2.0


def run_roles(hosts: str, functions: Mapping[str, Function | Registration] | None = None) -> RunningRoles:
    """A master and a worker on a thread of their own, for as long as the context lasts."""
    settings = WorkerSettings(SESSION_TIMEOUT, slots=8, queues=("default", "mail"), drain_timeout=5.0)
    worker = Worker(hosts, functions or tasks.registered(), settings, lambda _name, _data: None)
    return RunningRoles(worker, Master(hosts, MasterSettings(SESSION_TIMEOUT)))


@pytest.fixture(scope="session")
def kazoo(shared_zookeeper: ChildServer) -> Iterator[KazooClient]:
    client = KazooClient(shared_zookeeper.hosts, timeout=4.0)
    client.start(timeout=30)
    yield client
    client.stop()
    client.close()


@pytest.fixture(scope="session")
def served(shared_zookeeper: ChildServer) -> Iterator[str]:
    """The connect string of a namespace that a master and a worker serve; all tests of this process share it."""
    hosts = f"{shared_zookeeper.hosts}/served-{uuid.uuid4().hex}"
    with run_roles(hosts):
        yield hosts


@pytest.fixture
def make_herd() -> Iterator[Callable[..., Herd]]:
    """`make_herd(hosts, **settings)`: a Herd that the test need not close."""
    herds: list[Herd] = []

    def make(hosts: str, **settings: float) -> Herd:
        times = {"session_timeout": SESSION_TIMEOUT, "submit_timeout": 20.0, **settings}
        herds.append(Herd(hosts, **times))  # type: ignore[arg-type]  # none of them is the codec
        return herds[-1]

    yield make
    for herd in herds:
        herd.close()


@pytest.fixture
def app(served: str, make_herd: Callable[..., Herd]) -> App:
    """Tasks that a worker runs."""
    return App(make_herd(served))


@pytest.fixture
def quiet(namespace: str, make_herd: Callable[..., Herd]) -> App:
    """Tasks in a namespace that no worker serves."""
    return App(make_herd(namespace))


@pytest.fixture
def unreachable() -> str:
    """A connect string of a port without a server."""
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}"


@pytest.fixture
def nowhere(unreachable: str, make_herd: Callable[..., Herd]) -> Herd:
    """A Herd that soon gives up to reach a server."""
    return make_herd(unreachable, submit_timeout=0.3, connect_timeout=0.2)


@pytest.fixture
def znodes(kazoo: KazooClient) -> Callable[[str], Znodes]:
    """`znodes(hosts)`: a look at the namespace of a connect string."""
    return lambda hosts: Znodes(kazoo, hosts)


@pytest.fixture
def result_of(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> Callable[[bytes], object]:
    """`result_of(status)`: the result of a call whose status is written here."""

    def result(status: bytes) -> object:
        future: Future[object] = quiet.herd.submit_call("m:f")
        znodes(namespace).create(f"status/{future.name}", status)
        return future.result(10)

    return result


@pytest.fixture
def gate() -> Iterator[str]:
    """The name of a gate that `wait` waits at; it is opened at the end at the latest."""
    name = uuid.uuid4().hex
    tasks.gates[name] = threading.Event()
    tasks.reached[name] = threading.Event()
    yield name
    tasks.gates[name].set()
