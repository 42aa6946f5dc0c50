"""One process of the simulated world: its clocks, its random generator, its connections and its pools."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Final, Protocol

from herdmaster.roles.shared.system import PoolFactory, System
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.network import Endpoint

UNIX_EPOCH_MS: Final = 1_700_000_000_000
"""The unix time at which the clock of the world shows 0."""


class RunningPool(Protocol):
    """A pool of a process."""

    @property
    def is_full(self) -> bool:
        """Whether a task waits for a thread."""
        ...

    @property
    def running_tasks(self) -> list[str]: ...


class Process(Endpoint):
    """Process number `life` of a program, which runs on a host of the program's name. What its `rng` draws does not
    depend on other processes."""

    def __init__(self, loop: VirtualLoop, program: str, life: int, seed: object, *, skew_ms: int = 0) -> None:
        super().__init__(f"{program}#{life}", host=program)
        self.loop = loop
        self.rng = random.Random(f"{seed}/{program}/{life}")
        self.pools: list[RunningPool] = []
        self.skew_ms = skew_ms
        self.is_over = False
        self.main: asyncio.Task[None] | None = None
        self._boot = self.rng.uniform(0, 1e6)  # machines boot at different times
        self._pid = self.rng.randrange(2, 30_000)

    def clock(self) -> float:
        """Return the seconds since the machine booted, including those in which it slept."""
        self.loop.note_clock_read()
        return self.loop.now + self._boot

    def unix_ms(self) -> int:
        return UNIX_EPOCH_MS + int(self.loop.now * 1000) + self.skew_ms

    def new_id(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    def system(self, make_pool: PoolFactory) -> System:
        return System(
            clock=self.clock,
            unix_ms=self.unix_ms,
            new_id=self.new_id,
            rng=random.Random(self.rng.getrandbits(64)),
            host=self.host,
            pid=self._pid,
            make_pool=make_pool,
        )

    def start(
        self, main: Callable[[], Coroutine[object, object, None]], ended: Callable[[BaseException | None], None]
    ) -> None:
        """Run `main` in this process. `ended` is called at its end, unless the process is killed before."""

        async def run() -> None:
            error: BaseException | None = None
            try:
                await main()
            except Exception as failure:  # noqa: BLE001 - the supervisor decides about each failure
                error = failure
            self.is_over = True
            self.loop.run_as(self.loop.world, lambda: self.loop.call_soon(ended, error))

        self.main = self.loop.run_as(self, lambda: self.loop.create_task(run(), name=self.name))

    def kill(self, *, power: bool) -> None:
        """End the process at once. With `power` its machine is off too, and its connections fall silent; else the
        operating system closes the connections after what was written."""
        self.alive = False
        self.frozen.clear()
        for wire in list(self.wires):
            if power:
                wire.silence(up=True, down=True)
            else:
                wire.close_from_client()
        self.wires.clear()
