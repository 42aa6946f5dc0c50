"""Seeds that once found something: a fault of a role, or a judgement of the simulation's own that was unjust."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.world.world import World

pytestmark = pytest.mark.long

FOUND = {
    58: "a system whose dead sessions were still to end was judged to be busy without a reason",
    146: "the same",
    100132: "a backup that had just become primary was",
    100139: "masters that started when the last task had ended were",
    101129: "the same, with the most requests",
    200102: "a worker that was interrupted twice left a timer behind when it ended",
    200131: "the same",
    500050: "a task was cancelled in the very moment in which it started",
    500923: "a key had not been swept within 225 s",
    600138: "a due time was rounded up by a millisecond",
    796882479: "a system whose masters took away what was over was judged to be busy without a reason",
    796883113: "two timers of one instant could not be compared, which is a matter of the simulation's own",
    796883154: "a key was held for longer than a sweep may take",
    243159616: "a master that stood in dropped a copy of a task that had ended, which it was asked to cancel",
    610183598: "a master that had stood in looked at /master five times a second ever after",
    610169722: "a reference worker that woke as a zombie was judged as if it were fenced",
    87701028: "the delay of a task whose key another one had held was counted from when the key was free",
    87700976: "a role that was killed with a task just ended was judged to hide how",
    956849429: "a release freed a key without a hold that another task had taken meanwhile",
    502303197: "the same",
    300077: "a worker that waited for a retry in place left its timer behind",
}


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    """Once as the seed is now, and once without the faults that worlds had not then."""
    plan = draw_plan(seed)
    assert World(plan).run().failure is None
    faults = tuple(fault for fault in plan.faults if not fault.when.step)
    if len(faults) < len(plan.faults):
        assert World(msgspec.structs.replace(plan, faults=faults)).run().failure is None
