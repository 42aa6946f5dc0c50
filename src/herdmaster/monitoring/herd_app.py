"""The monitoring of a program that uses a Herd."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Final

from starlette.applications import Starlette

from herdmaster.api import Herd
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.internals import core_of
from herdmaster.api.questions import ask_and_wait_async
from herdmaster.monitoring.gauges import Reading
from herdmaster.monitoring.metrics import Metrics
from herdmaster.monitoring.processes import count_slots_wanted
from herdmaster.monitoring.web import make_app

_SCALE_SECONDS: Final = 5.0


class HerdProcess:
    """A program that uses a Herd."""

    def __init__(self, herd: HerdCore) -> None:
        self._herd = herd

    def not_ready(self) -> str | None:
        return self._herd.not_ready()

    async def slots_wanted(self, queue: str | None, /) -> int:
        """Count over the session of the Herd. Raises HerdError, TimeoutError, and the errors of ZooKeeper."""
        question = partial(count_slots_wanted, queue=queue)
        return await ask_and_wait_async(self._herd.started(), question, "the queues", _SCALE_SECONDS)


def make_app_of(herd: Herd) -> Starlette:
    """Return the ASGI application of a Herd, which counts and measures from now on."""
    core = core_of(herd)
    metrics = core.instruments
    if not isinstance(metrics, Metrics):
        metrics = Metrics()
        metrics.add_source(partial(_read_gauges, weakref.ref(core)))  # the Herd refers to its metrics
        core.measure(metrics)
    return make_app(HerdProcess(core), metrics)


def _read_gauges(herd: weakref.ref[HerdCore]) -> Iterable[Reading]:
    core = herd()
    return [] if core is None else [Reading("herd_zookeeper_connected", float(core.is_connected))]
