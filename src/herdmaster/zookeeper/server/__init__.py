"""An embedded, single-node server that speaks ZooKeeper's protocol, for development and tests.

`EmbeddedServer` is what runs; beneath it everything but the sockets and the journal is pure. It knows nothing of the
client: the two share the wire format, the nouns, the paths and the errors.

    bytes -> connection.py -> machine.py -> requests.py -> reads.py, writes.py -> state.py (tree, sessions) -> effects
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from herdmaster.zookeeper.server.tcp import EmbeddedServer, Limits

__all__ = ["EmbeddedServer", "Limits"]


def __getattr__(name: str) -> object:
    """Load the listener when it is asked for: a simulation uses the pure parts without it."""
    if name in __all__:
        from herdmaster.zookeeper.server import tcp  # noqa: PLC0415 - this is the point of the function

        return getattr(tcp, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
