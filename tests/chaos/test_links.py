from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from chaos.links import LinkState, Network, Route
from herdmaster.testing.ports import free_ports
from tests.cli.processes import wait_until


class Echo:
    """A server that answers what it hears, and remembers it."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.heard = b""
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    self.heard += data
                    connection.sendall(data.upper())
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def route(echo: Echo) -> Iterator[Route]:
    with Network() as network:
        yield network.open_links([echo.port])


@pytest.fixture
def connection(route: Route) -> Iterator[socket.socket]:
    with connect(route) as connection:
        assert ask(connection, b"one") == b"ONE"
        yield connection


def connect(route: Route) -> socket.socket:
    host, _, port = route.hosts.partition(":")
    return socket.create_connection((host, int(port)), 20)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(1000)


def test_a_silent_link_keeps_what_is_sent_and_delivers_it_late(
    route: Route, echo: Echo, connection: socket.socket
) -> None:
    route.cut(LinkState.SILENT)
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(connection, b"two")
    assert echo.heard == b"one"
    route.mend()
    connection.settimeout(20)
    assert connection.recv(1000) == b"TWO"


def test_what_a_closed_connection_had_sent_into_a_silent_link_still_arrives(
    route: Route, echo: Echo, connection: socket.socket
) -> None:
    route.cut(LinkState.SILENT)
    connection.sendall(b"two")
    connection.close()
    route.mend()
    wait_until(lambda: echo.heard == b"onetwo", "it did not arrive")


def test_an_attempt_that_was_given_up_while_the_link_was_silent_never_reaches_the_server(
    route: Route, echo: Echo, connection: socket.socket
) -> None:
    route.cut(LinkState.SILENT)
    with connect(route) as attempt:
        attempt.sendall(b"lost")
    for _ in range(5):  # each is a turn of the network's loop, which sees data and end in two
        route.cut(LinkState.SILENT)
    with connect(route) as patient:
        route.mend()
        assert ask(patient, b"two") == b"TWO"
    assert echo.heard == b"onetwo"
    assert echo.connections == 2


def test_over_a_deaf_link_requests_arrive_and_replies_come_late(
    route: Route, echo: Echo, connection: socket.socket
) -> None:
    route.cut(LinkState.DEAF)
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(connection, b"two")
    wait_until(lambda: echo.heard == b"onetwo", "the request did not arrive")
    route.mend()
    connection.settimeout(20)
    assert connection.recv(1000) == b"TWO"


def test_a_resetting_link_breaks_old_connections_and_new_ones(route: Route, connection: socket.socket) -> None:
    route.cut(LinkState.RESETTING)
    with pytest.raises(ConnectionResetError):
        connection.recv(1000)
    with pytest.raises(ConnectionError), connect(route) as another:  # noqa: PT012 - whichever step it meets
        another.sendall(b"two")
        another.recv(1000)
    route.mend()
    with connect(route) as another:
        assert ask(another, b"three") == b"THREE"


def test_only_the_link_that_is_used_is_cut(echo: Echo) -> None:
    with Network() as network:
        route = network.open_links([echo.port, echo.port])
        first, second = route.hosts.split(",")
        assert not route.cut_used(LinkState.SILENT)
        with socket.create_connection(("127.0.0.1", int(second.partition(":")[2])), 20) as used:
            assert ask(used, b"one") == b"ONE"
            assert route.cut_used(LinkState.SILENT)
            with socket.create_connection(("127.0.0.1", int(first.partition(":")[2])), 20) as other:
                assert ask(other, b"two") == b"TWO"
            used.settimeout(0.3)
            with pytest.raises(TimeoutError):
                ask(used, b"three")


def test_what_closes_on_one_side_closes_on_the_other(route: Route, echo: Echo, connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1000) == b""


def test_a_patient_link_waits_for_a_server_that_does_not_listen_yet() -> None:
    (port,) = free_ports(1)
    with Network() as network:
        impatient, patient = network.open_links([port]), network.open_links([port], patience=30.0)
        with pytest.raises(ConnectionError), connect(impatient) as refused:  # noqa: PT012 - whichever step it meets
            refused.sendall(b"one")
            refused.recv(1000)
        with connect(patient) as waiting:
            waiting.sendall(b"two")
            echo = Echo(port)
            assert waiting.recv(1000) == b"TWO"
        echo.close()
