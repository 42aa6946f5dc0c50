from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.backlog import Backlog

A, B, C = "task-a", "task-b", "task-c"
ULID = "01arz3ndektsv4rrffq69g5fav"


def call(queue: str = "default", priority: int = 5, number: int = 0) -> str:
    marker = "" if priority == 5 else f".p{priority}"
    return f"task-{ULID[:-2]}{number:02d}.{queue}{marker}"


def take_all(backlog: Backlog) -> list[str]:
    """In the order in which they are on offer: by priority, then by age."""
    taken = []
    while offers := backlog.offers():
        taken.append(backlog.take(min(offers, key=lambda offer: offer[:2])[2]))
    return taken


def test_tasks_are_offered_in_the_order_of_their_arrival() -> None:
    backlog = Backlog()
    for name in (B, A, C):
        backlog.add(name)

    assert take_all(backlog) == [B, A, C]


def test_names_of_a_listing_are_as_old_as_their_text_says() -> None:
    backlog = Backlog()
    assert backlog.replace([C, A, B]) == []

    assert take_all(backlog) == [A, B, C]


def test_a_higher_priority_comes_first_whatever_its_age_and_its_queue() -> None:
    backlog = Backlog()
    names = [call(number=1), call("mail", 9, 2), call(priority=0, number=3), "task-raw"]
    for name in names:
        assert backlog.add(name)

    assert take_all(backlog) == [names[1], names[0], names[3], names[2]]


def test_its_size_counts_all_names_also_those_that_are_no_tasks() -> None:
    backlog = Backlog()
    backlog.replace([A, "no task", "another"])
    for name in (B, "third"):
        backlog.add(name)
    for name in (A, "another", "never there"):
        backlog.remove(name)
    assert (backlog.size, len(backlog)) == (3, 1)
    backlog.replace([B])

    assert backlog.size == len(backlog) == 1


def test_what_is_no_task_is_refused_and_named() -> None:
    backlog = Backlog()

    assert not backlog.add("garbage")
    assert backlog.replace([A, "task-", "x", "task-01.UPPER"]) == ["task-", "task-01.UPPER", "x"]
    assert list(backlog) == [A]


def test_a_listing_replaces_the_picture_and_keeps_the_age_of_what_stays() -> None:
    backlog = Backlog()
    for name in (C, B):
        backlog.add(name)
    backlog.replace([A, C])

    assert take_all(backlog) == [C, A]


def test_a_held_task_is_not_on_offer_and_comes_back_in_front() -> None:
    backlog = Backlog()
    for name in (A, B):
        backlog.add(name)
    backlog.hold(A)

    assert take_all(backlog) == [B]
    backlog.release(A)
    assert take_all(backlog) == [A]


def test_a_task_can_be_held_before_it_arrives() -> None:
    backlog = Backlog()
    backlog.hold(A)
    backlog.add(A)

    assert take_all(backlog) == []
    backlog.release(A)
    assert take_all(backlog) == [A]


def test_releasing_what_left_meanwhile_offers_nothing() -> None:
    backlog = Backlog()
    backlog.add(A)
    assert take_all(backlog) == [A]
    backlog.remove(A)
    backlog.release(A)

    assert take_all(backlog) == []
    assert backlog._held == {}


def test_a_name_that_left_and_came_back_is_the_youngest() -> None:
    backlog = Backlog()
    for name in (A, B):
        backlog.add(name)
    backlog.hold(A)
    backlog.remove(A)
    backlog.add(A)
    backlog.release(A)
    backlog.hold(B)

    assert take_all(backlog) == [A]


def test_counts_are_per_queue() -> None:
    backlog = Backlog()
    for name in (A, B, call("mail"), call("mail", 9)):
        backlog.add(name)

    assert backlog.count_by_queue() == {"default": 2, "mail": 2}


def test_tasks_of_a_queue_that_is_not_served_leave_nothing_behind_when_they_go() -> None:
    backlog = Backlog()
    backlog.add(call("idle", number=0))  # stays in front, so that no place behind it is ever looked at
    for number in range(10_000):
        name = f"task-{number:026d}.idle"
        backlog.add(name)
        backlog.remove(name)
        backlog.offers()

    (bucket,) = backlog._buckets.values()
    assert len(bucket.names) < 200
    assert take_all(backlog) == [call("idle", number=0)]


def test_a_queue_that_is_empty_is_forgotten() -> None:
    backlog = Backlog()
    for number in range(100):
        backlog.add(call(f"queue{number}"))
    take_all(backlog)
    backlog.offers()

    assert backlog._buckets == {}


def steps() -> st.SearchStrategy[list[tuple[str, str]]]:
    names = st.sampled_from([A, B, C, call(), call(priority=7), call("mail")])
    return st.lists(st.tuples(st.sampled_from(["add", "remove", "hold", "release", "take"]), names), max_size=60)


@given(steps())
def test_what_is_on_offer_is_what_is_here_and_not_held(steps: list[tuple[str, str]]) -> None:
    backlog, here, held = Backlog(), set[str](), set[str]()
    for verb, name in steps:
        if verb == "add":
            backlog.add(name)
            here.add(name)
        elif verb == "remove":
            backlog.remove(name)
            here.discard(name)
        elif verb == "hold":
            backlog.hold(name)
            held.add(name)
        elif verb == "release":
            backlog.release(name)
            held.discard(name)
        elif offers := backlog.offers():
            held.add(backlog.take(offers[0][2]))

    assert set(backlog) == here
    assert len(backlog) == len(here)
    taken = take_all(backlog)
    assert sorted(taken) == sorted(here - held)
