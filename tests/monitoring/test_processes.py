"""The gauges of a master, from the census of its picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec

from herdmaster.core.census import take_census
from herdmaster.monitoring.gauges import GAUGES
from herdmaster.monitoring.processes import MasterProcess
from herdmaster.roles.primary.master import Master


def test_a_primary_tells_how_many_flows_run() -> None:
    census = take_census({"default": 2}, {}, {"default": 1000}, [], {})
    census = msgspec.structs.replace(census, flows=3)
    system = SimpleNamespace(unix_ms=lambda: 5000)
    master = SimpleNamespace(client=None, is_primary=True, take_census=lambda: census, system=system)
    readings = {(each.name, *each.labels): each.value for each in MasterProcess(cast("Master", master)).read_gauges()}
    assert readings["herd_flows",] == 3
    assert readings["herd_tasks", "default", "pending"] == 2
    assert readings["herd_queue_oldest_pending_seconds", "default"] == 4
    assert {name for name, *_ in readings} <= GAUGES.keys()
