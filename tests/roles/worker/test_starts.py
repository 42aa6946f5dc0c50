from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.options import PoolKind
from herdmaster.roles.worker.held import Held
from herdmaster.roles.worker.starts import Room, choose_starts
from herdmaster.running.delivery import Delivered

ULID = "01arz3ndektsv4rrffq69g5fav"


def held(number: int, *, priority: int = 5, suspect: bool = False, marked: bool = False) -> Held:
    marker = "" if priority == 5 else f".p{priority}"
    found = Held(Delivered(f"task-{ULID[:-2]}{number:02d}.default{marker}", b"", number, None), 0.0)
    found.suspect, found.marked = suspect, marked
    return found


def room(idle: int) -> Room:
    return Room(idle, dict.fromkeys(PoolKind, idle))


def always(_name: str) -> bool:
    return True


def all_but(*busy: Held) -> Callable[[str], bool]:
    names = {each.task.name for each in busy}
    return lambda name: name not in names


def test_without_suspects_everything_goes_to_the_pool_the_urgent_first_and_then_the_oldest() -> None:
    waiting = [held(1), held(2, priority=9), held(3, priority=0), held(4)]

    assert choose_starts(reversed(waiting), always, room(1)) == ([waiting[1], waiting[0], waiting[3], waiting[2]], [])


def test_what_has_a_request_under_way_is_left_alone() -> None:
    busy, free = held(1), held(2)

    assert choose_starts([busy, free], all_but(busy), room(4)) == ([free], [])


def test_a_suspect_is_not_prefetched() -> None:
    suspect = held(1, suspect=True)

    assert choose_starts([suspect], always, room(0)) == ([], [])


def test_a_suspect_is_marked_when_a_thread_is_idle_and_goes_to_the_pool_when_that_is_done() -> None:
    suspect = held(1, suspect=True)
    assert choose_starts([suspect], always, room(1)) == ([], [suspect])
    suspect.marked = True

    assert choose_starts([suspect], always, room(1)) == ([suspect], [])


def test_a_thread_is_kept_for_a_suspect_whose_start_is_being_marked() -> None:
    suspect, other = held(1, suspect=True), held(2)

    assert choose_starts([suspect, other], all_but(suspect), room(1)) == ([], [])
    assert choose_starts([suspect, other], all_but(suspect), room(2)) == ([other], [])


def test_while_there_are_suspects_nothing_is_prefetched_so_that_they_find_an_idle_thread() -> None:
    suspect, others = held(0, suspect=True), [held(number) for number in range(1, 9)]

    assert choose_starts([*others, suspect], always, room(0)) == ([], [])
    assert choose_starts([*others, suspect], always, room(1)) == ([], [suspect])
    assert choose_starts([*others, suspect], always, room(3)) == (others[:2], [suspect])


def test_suspects_find_threads_in_the_order_of_their_urgency() -> None:
    waiting = [held(1, suspect=True), held(2, suspect=True, priority=9), held(3, suspect=True)]

    assert choose_starts(waiting, always, room(2)) == ([], [waiting[1], waiting[0]])


def test_while_tasks_of_several_pools_wait_no_more_are_handed_over_than_there_are_slots_of_each() -> None:
    waiting = [held(number) for number in range(6)]
    for number in (0, 2, 3):
        waiting[number].kind = PoolKind.PROCESS
    free = Room(4, {PoolKind.THREAD: 9, PoolKind.PROCESS: 2, PoolKind.ASYNCIO: 0}, prefetches=False)

    assert choose_starts(waiting, always, free) == ([waiting[0], waiting[1], waiting[2], waiting[4]], [])


@given(
    st.lists(st.sampled_from(["plain", "suspect", "marked", "being marked"]), max_size=12),
    st.integers(0, 6),
)
def test_a_marked_start_always_finds_an_idle_thread(kinds: list[str], idle_threads: int) -> None:
    waiting = [held(number, suspect=kind != "plain", marked=kind == "marked") for number, kind in enumerate(kinds)]
    being_marked = [each for each, kind in zip(waiting, kinds, strict=True) if kind == "being marked"]
    reserved = len(being_marked) + kinds.count("marked")
    to_submit, to_mark = choose_starts(waiting, all_but(*being_marked), room(max(idle_threads, reserved)))

    assert not set(map(id, to_submit)) & set(map(id, to_mark))
    assert all(each.suspect and not each.marked for each in to_mark)
    assert all(each.marked or not each.suspect for each in to_submit)
    assert {id(each) for each in waiting if each.marked} <= set(map(id, to_submit))
    if any(each.suspect for each in waiting):
        assert len(to_submit) + len(to_mark) + len(being_marked) <= max(idle_threads, reserved)


# --- suspects that run alone -----------------------------------------------------------------------------------------


def alone(number: int, *, priority: int = 5, marked: bool = False) -> Held:
    found = held(number, priority=priority, suspect=True, marked=marked)
    found.alone = True
    return found


def empty(idle: int = 4) -> Room:
    return Room(idle, dict.fromkeys(PoolKind, idle), is_empty=True)


def test_a_suspect_runs_alone_once_nothing_else_runs_and_until_then_nothing_is_begun() -> None:
    suspect, others = alone(1), [held(2, priority=9), held(3, suspect=True)]

    assert choose_starts([suspect, *others], always, room(3)) == ([], [])
    assert choose_starts([suspect, *others], always, empty()) == ([], [suspect])
    suspect.marked = True
    assert choose_starts([suspect, *others], always, empty()) == ([suspect], [])


def test_nothing_is_begun_beside_a_suspect_that_runs_alone() -> None:
    closed = Room(3, dict.fromkeys(PoolKind, 3), is_closed=True)

    assert choose_starts([held(1), held(2, suspect=True), alone(3)], always, closed) == ([], [])


def test_of_several_suspects_that_run_alone_one_is_marked_at_a_time() -> None:
    first, second = alone(1), alone(2)

    assert choose_starts([first, second], always, empty()) == ([], [first])
    assert choose_starts([first, second], all_but(first), empty()) == ([], [])
    first.marked = True
    urgent = alone(3, priority=9)
    assert choose_starts([urgent, first, second], always, empty()) == ([first], [])


def test_a_start_that_is_marked_is_not_charged_for_a_suspect_that_runs_alone() -> None:
    marked, suspect = held(1, suspect=True, marked=True), alone(2)
    being_marked = held(3, suspect=True)

    assert choose_starts([suspect, marked], always, empty()) == ([marked], [])
    assert choose_starts([suspect, being_marked], all_but(being_marked), empty()) == ([], [])
