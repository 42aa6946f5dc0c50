"""The security of a client's connections: how they are encrypted, and as whom they authenticate."""

from __future__ import annotations

import msgspec

from herdmaster.zookeeper.client.credentials import Credential
from herdmaster.zookeeper.tls import TLS, client_context


class Security(msgspec.Struct, frozen=True):
    """What every connection of a session begins with. The default is a plain connection of a client that shows no
    credential."""

    tls: TLS | None = None
    auth: tuple[Credential, ...] = ()

    @property
    def takes_any_name(self) -> bool:
        """Whether a server may show a certificate for any name."""
        return self.tls is not None and not self.tls.verify_host_name

    def check(self) -> None:
        """Raise InvalidTls for files that cannot be used. May block."""
        if self.tls is not None:
            client_context(self.tls)


PLAIN = Security()
