"""The settings of a machine."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire.framing import MAX_FRAME


class Access(msgspec.Struct, frozen=True):
    """Who may connect.

    - `sasl_users`: the passwords, in UTF-8, of the users of SASL DIGEST-MD5; without them there is no SASL.
    - `required_schemes`: a client has to prove an identity of one of them (Apache's `enforce.auth.schemes`).
    """

    sasl_users: Mapping[str, Secret] = {}
    required_schemes: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True):
    """The settings of a machine. Times in milliseconds, sizes in bytes.

    - `super_digest`: the digest id (`user:hash`) that no ACL stops.
    - `x509`: clients show certificates, so ACLs may have their subjects.
    """

    tick: int = 100
    min_timeout: int = 4000
    max_timeout: int = 40000
    frame_limit: int = MAX_FRAME
    ttl_allowed: bool = True
    sweep_interval: int = 60000
    super_digest: str = ""
    access: Access = Access()
    x509: bool = False

    @property
    def schemes(self) -> frozenset[str]:
        """The schemes of identities that an ACL may have, beside `world` and `auth`."""
        optional = {"sasl": bool(self.access.sasl_users), "x509": self.x509}
        return frozenset(["digest", "ip", *(scheme for scheme, is_known in optional.items() if is_known)])
