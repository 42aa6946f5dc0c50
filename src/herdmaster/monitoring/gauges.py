"""The gauges that a process has, by name; a scrape asks for their values."""

from __future__ import annotations

from typing import Final

import msgspec


class Gauge(msgspec.Struct, frozen=True):
    help: str
    labels: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """A value of the gauge `name`; `labels` are in the order of the gauge's."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


GAUGES: Final = {
    "herd_primary": Gauge("1 if this master is primary, else 0"),
    "herd_tasks": Gauge("Tasks that have not ended, by state", ("queue", "state")),
    "herd_queue_oldest_pending_seconds": Gauge("Age of the oldest task that waits to be assigned", ("queue",)),
    "herd_workers": Gauge("Workers that are alive, by state", ("state",)),
    "herd_slots": Gauge("Slots of all workers, by state", ("state",)),
    "herd_slots_wanted": Gauge("Slots that the tasks of a queue could use now", ("queue",)),
    "herd_flows": Gauge("Flows that have not ended"),
    "herd_slots_busy": Gauge("Slots of this worker whose task runs"),
    "herd_event_loop_lag_seconds": Gauge("The longest time in the last ten seconds that the event loop stood still"),
    "herd_zookeeper_connected": Gauge("1 while this process has a live session, else 0"),
}
