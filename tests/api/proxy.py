"""A TCP proxy that can hold what it carries, cut its connections and refuse new ones."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a loopback port of its own for as long as the context lasts."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._refusing = False
        self._marker: bytes | None = None
        self._replies_pass = threading.Event()
        self._replies_pass.set()
        self.connections = 0

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def hold_replies_to(self, marker: bytes) -> None:
        """What servers send is kept back as soon as a client has sent something that contains the marker."""
        self._marker = marker

    def cut(self, *, refuse: bool = False) -> None:
        """Ends all connections; what was held is lost. With `refuse` new ones end at once, until `accept`."""
        with self._lock:
            self._refusing = refuse
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()
            self._marker = None
        self._replies_pass.set()

    def accept(self) -> None:
        self._refusing = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut(refuse=True)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                refused = self._refusing
                if not refused:
                    self._sockets |= {client, server}
                    self.connections += 1
            if refused:
                client.close()
                server.close()
                continue
            threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        try:
            while data := source.recv(65536):
                if not replies and self._marker is not None and self._marker in data:
                    self._replies_pass.clear()
                if replies and not self._replies_pass.is_set():
                    self._replies_pass.wait()
                    with self._lock:
                        if source not in self._sockets:
                            return  # it was cut: what was held is lost
                sink.sendall(data)
        except OSError:
            return
        finally:
            with self._lock:
                self._sockets -= {source, sink}
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                if each is source:
                    each.close()
