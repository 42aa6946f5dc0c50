"""One process of the simulated world: its clocks, its chance, its sockets, and the ways in which it can come to
harm."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final, Protocol

from herdmaster.roles.shared.system import System
from herdmaster.simulation.world.loop import Owner, VirtualLoop

if TYPE_CHECKING:
    from herdmaster.simulation.world.network import Wire
    from herdmaster.simulation.world.pool import PoolOfProcess

UNIX_EPOCH_MS: Final = 1_700_000_000_000
"""What unix clocks show when the world's clock shows 0."""


class Fillable(Protocol):
    @property
    def is_full(self) -> bool:
        """Whether something waits for a thread."""
        ...

    @property
    def running_tasks(self) -> list[str]: ...


class Process(Owner):
    """`slot` is the part that it plays, `name` one life of it. `rng` is its own: what it draws depends on no other
    else."""

    def __init__(self, loop: VirtualLoop, slot: str, life: int, seed: object, *, skew_ms: int = 0) -> None:
        super().__init__(f"{slot}#{life}")
        self.loop = loop
        self.slot = slot
        self.rng = random.Random(f"{seed}/{slot}/{life}")
        self.wires: dict[Wire, None] = {}
        self.pools: list[Fillable] = []
        self.skew_ms = skew_ms
        self.is_over = False
        self._boot = self.rng.uniform(0, 1e6)  # machines were not booted together
        self._pid = self.rng.randrange(2, 30_000)

    def clock(self) -> float:
        """Seconds since its machine booted; goes on while the machine sleeps."""
        self.loop.note_look_at_clock()
        return self.loop.now + self._boot

    def unix_ms(self) -> int:
        return UNIX_EPOCH_MS + int(self.loop.now * 1000) + self.skew_ms

    def new_id(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    def system(self, make_pool: PoolOfProcess) -> System:
        return System(
            clock=self.clock,
            unix_ms=self.unix_ms,
            new_id=self.new_id,
            rng=random.Random(self.rng.getrandbits(64)),
            host=self.slot,
            pid=self._pid,
            make_pool=make_pool,
        )

    def start(
        self, main: Callable[[], Coroutine[object, object, None]], ended: Callable[[BaseException | None], None]
    ) -> None:
        """Runs `main` in this process; `ended` hears of its end, unless the process is killed before."""

        async def run() -> None:
            error: BaseException | None = None
            try:
                await main()
            except Exception as failure:  # noqa: BLE001 - the world decides about every failure
                error = failure
            self.is_over = True
            self.loop.run_as(self.loop.world, lambda: self.loop.call_soon(ended, error))

        self._main = self.loop.run_as(self, lambda: self.loop.create_task(run(), name=self.name))

    def kill(self, *, power: bool) -> None:
        """It is gone at this moment. With `power` its machine is gone too: its connections never end, they fall silent;
        else its system closes them after what was written."""
        self.alive = False
        self.frozen.clear()
        for wire in list(self.wires):
            if power:
                wire.silence(up=True, down=True)
            else:
                wire.close_from_client()
        self.wires.clear()
