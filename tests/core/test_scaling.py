"""How many slots a queue could use now."""

from __future__ import annotations

import pytest

from herdmaster.core.queues import QueueSettings
from herdmaster.core.scaling import slots_wanted, slots_wanted_by_queue


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (QueueSettings(), 13),
        (QueueSettings(paused=True), 3),
        (QueueSettings(max_running=5), 5),
        (QueueSettings(max_running=1), 3),  # a limit that was lowered ends nothing
        (QueueSettings(max_running=100), 13),
        (QueueSettings(rate=2.5), 6),
        (QueueSettings(rate=100), 13),
        (QueueSettings(rate=2.5, max_running=4), 4),
        (QueueSettings(rate=2.5, paused=True), 3),
    ],
)
def test_nothing_that_is_paused_or_limited_wants_a_slot(settings: QueueSettings, wanted: int) -> None:
    assert slots_wanted(3, 10, settings) == wanted


def test_every_queue_with_tasks_is_there() -> None:
    wanted = slots_wanted_by_queue({"a": 1}, {"a": 2, "b": 3}, {"b": QueueSettings(paused=True), "c": QueueSettings()})

    assert wanted == {"a": 3, "b": 0}
