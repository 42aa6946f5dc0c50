"""What a role takes from its machine: clocks, randomness, a host name, and a pool for task code.

The default is the real machine; a simulation gives another.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from herdmaster.pools.limits import Limits
from herdmaster.pools.protocol import Pool
from herdmaster.pools.threads import ThreadPool
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.zookeeper.client.connection import Clock, boot_clock
from herdmaster.zookeeper.client.security import PLAIN, Security

T = TypeVar("T")
R = TypeVar("R")


class PoolFactory(Protocol):
    """Makes a pool of threads; see `ThreadPool`."""

    def __call__(
        self,
        slots: int,
        run: Callable[[T], R],
        deliver: Callable[[list[tuple[T, R]]], None],
        /,
        *,
        limits_of: Callable[[T], Limits] | None = None,
        given_up: Callable[[T], None] | None = None,
    ) -> Pool[T]: ...


class System(msgspec.Struct, frozen=True):
    """The machine of a role. `clock` gives seconds for session deadlines, `unix_ms` the time that znodes show, `new_id`
    16 hex digits. `security` is that of its connections."""

    clock: Clock = boot_clock
    unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    new_id: Callable[[], str] = lambda: secrets.token_hex(8)
    rng: random.Random = msgspec.field(default_factory=random.Random)
    host: str = msgspec.field(default_factory=socket.gethostname)
    pid: int = msgspec.field(default_factory=os.getpid)
    make_pool: PoolFactory = ThreadPool
    security: Security = PLAIN
    instruments: Instruments = msgspec.field(default_factory=Instruments)
