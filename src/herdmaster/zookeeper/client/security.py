"""The security of a client's connections: how they are encrypted, and as whom they authenticate."""

from __future__ import annotations

import msgspec

from herdmaster.zookeeper.tls import TLS, client_context


class Security(msgspec.Struct, frozen=True):
    """What every connection of a session begins with. `auth` are (scheme, bytes) pairs. The default is a plain
    connection of a client that shows no credential."""

    tls: TLS | None = None
    auth: tuple[tuple[str, bytes], ...] = ()

    def check(self) -> None:
        """Raise InvalidTls for files that cannot be used."""
        if self.tls is not None:
            client_context(self.tls)

    def __repr__(self) -> str:
        schemes = tuple(scheme for scheme, _ in self.auth)  # the rest is secret
        return f"Security(tls={self.tls!r}, auth={schemes!r})"


PLAIN = Security()
