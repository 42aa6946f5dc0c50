"""The numbers of a primary's picture."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.backlog import Backlog
from herdmaster.core.census import WorkerKind
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.names import call_name, queue_and_priority
from herdmaster.core.picture import Listing
from herdmaster.core.queues import QueueSettings
from herdmaster.core.roster import WorkerState

NAMES = [call_name(f"01jd00000000000000000000{n:02d}", "mail" if n % 2 else "default", n % 3) for n in range(12)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "hold", "release", "take", "look"]), st.sampled_from(NAMES)),
    max_size=80,
)


@given(STEPS)
def test_a_backlog_counts_its_tasks_by_queue_whatever_happened(steps: list[tuple[str, str]]) -> None:
    backlog = Backlog()
    for step, name in steps:
        match step:
            case "add":
                backlog.add(name)
            case "remove":
                backlog.remove(name)
            case "hold":
                # As the dispatcher does it: only what was given out, or is not here yet.
                if name not in backlog:
                    backlog.hold(name)
            case "release":
                backlog.release(name)
            case "take":
                for _, _, bucket in sorted(backlog.offers(), key=lambda offer: offer[:2])[:1]:
                    backlog.take(bucket)
            case _:
                backlog.oldest_by_queue()
    here = Counter(place[0] for name in backlog if (place := queue_and_priority(name)) is not None)

    assert backlog.count_by_queue() == dict(here)


def test_the_oldest_task_of_each_queue_is_known_by_its_name() -> None:
    backlog = Backlog()
    for time in (1, 2, 3):
        backlog.add(call_name(f"000000000{time}0000000000000000", "mail", time))
    backlog.remove(call_name("00000000010000000000000000", "mail", 1))
    backlog.add("task-0000000001")

    assert backlog.oldest_by_queue() == {"mail": 2}


def test_a_census_counts_tasks_workers_and_slots() -> None:
    dispatcher = Dispatcher()
    dispatcher.replace_tasks(NAMES[:3])
    alive = ["worker-a", "worker-a2", "worker-b", "worker-b2", "worker-silent"]
    dispatcher.replace_inboxes([*alive, "worker-gone", "worker-gone2"], 0.0)
    dispatcher.replace_workers(alive, 0.0)
    for worker in ("worker-a", "worker-a2"):
        dispatcher.set_worker_state(worker, WorkerState(2, frozenset({"default"})))
    for worker in ("worker-b", "worker-b2"):
        dispatcher.set_worker_state(worker, WorkerState(4, frozenset({"default"}), draining=True))
    dispatcher.replace_assignments("worker-a", NAMES[3:6], 0.0)
    dispatcher.replace_assignments("worker-a2", [NAMES[7]], 0.0)
    dispatcher.replace_assignments("worker-b", [NAMES[8]], 0.0)
    dispatcher.replace_assignments("worker-gone", [NAMES[6]], 0.0)
    dispatcher.set_limits("mail", QueueSettings(max_running=2), 0.0)
    for listing in Listing:
        dispatcher.complete(listing)

    census = dispatcher.take_census({"mail": 9})

    assert census.waiting == {"default": 2, "mail": 1}
    assert census.delayed == {"mail": 9}
    assert census.assigned == {"mail": 3, "default": 3}
    assert census.wanted == {"default": 5, "mail": 3}
    assert census.workers == {WorkerKind.READY: 3, WorkerKind.DRAINING: 2, WorkerKind.LOST: 2}
    assert (census.slots, census.busy) == (4, 3)
