from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.options import PoolKind
from herdmaster.roles.delivered import Delivered
from herdmaster.roles.deliveries import Held, Room, choose_starts

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
