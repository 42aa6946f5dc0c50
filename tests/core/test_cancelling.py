from __future__ import annotations

from herdmaster.core.cancelling import Requests
from herdmaster.core.whereabouts import Assigned, Delayed, Waiting, Whereabouts

A, B, C = "task-a", "task-b", "task-c"
CALL = "task-01arz3ndektsv4rrffq69g5fav.default"
PLACES: list[Whereabouts] = [Waiting(CALL), Delayed(1000, CALL), Assigned(CALL, "worker-w")]


class FakePlaces:
    """Every task waits, except those in `gone`."""

    def __init__(self) -> None:
        self.are_current = True
        self.gone: set[str] = set()

    def where_is(self, task: str) -> Whereabouts | None:
        return None if task in self.gone else Waiting(task)


def told(*names: str, places: FakePlaces | None = None) -> Requests:
    requests = Requests(places or FakePlaces())
    requests.replace(names)
    requests.complete()
    return requests


def take(requests: Requests, room: int) -> list[str]:
    return [task for task, _ in requests.take(room)]


# --- the requests ----------------------------------------------------------------------------------------------------


def test_each_request_is_given_once_until_it_is_answered() -> None:
    requests = told(A, B)
    requests.add(C)
    assert take(requests, 2) == [A, B]
    assert take(requests, 2) == [C]
    requests.finish(A)

    assert take(requests, 2) == [A]


def test_a_request_that_went_is_not_looked_for_again() -> None:
    requests = told(A)
    assert take(requests, 1) == [A]
    requests.remove(A)
    requests.finish(A)
    assert take(requests, 1) == []

    requests.add(A)
    assert take(requests, 1) == [A]


def test_a_request_that_goes_and_comes_back_meanwhile_is_looked_for_again_afterwards() -> None:
    requests = told(A)
    assert take(requests, 1) == [A]
    requests.remove(A)
    requests.add(A)
    assert take(requests, 1) == []
    requests.finish(A)

    assert take(requests, 1) == [A]


def test_nothing_is_given_while_the_picture_may_be_old() -> None:
    requests = told(A)
    requests.interrupt()
    assert take(requests, 1) == []
    requests.replace([B])
    requests.complete()

    assert take(requests, 2) == [B]


def test_what_is_postponed_waits_until_then() -> None:
    requests = told(A)
    take(requests, 1)
    requests.postpone(A, 5.0)
    requests.release_postponed(4.9)
    assert (take(requests, 1), requests.next_release()) == ([], 5.0)
    requests.release_postponed(5.0)

    assert (take(requests, 1), requests.next_release()) == ([A], None)


def test_a_listing_does_not_offer_what_is_taken() -> None:
    requests = told(A)
    take(requests, 1)
    requests.interrupt()
    requests.replace([A, B])
    requests.complete()
    assert take(requests, 2) == [B]
    requests.finish(A)

    assert take(requests, 2) == [A]


def test_names_outside_of_the_grammar_are_told_once_and_left_alone() -> None:
    requests = told("garbage", A, "task-a.b")

    assert requests.take_foreign_names() == {"garbage", "task-a.b"}
    assert requests.take_foreign_names() == set()
    assert take(requests, 5) == [A]


def test_nothing_is_given_while_it_may_be_unknown_where_tasks_are() -> None:
    places = FakePlaces()
    requests = told(A, places=places)
    places.are_current = False
    assert take(requests, 1) == []

    places.are_current = True
    assert take(requests, 1) == [A]


def test_a_task_that_has_moved_on_is_looked_for_again_at_once_and_one_that_has_not_later() -> None:
    places = FakePlaces()
    requests = told(A, B, places=places)
    assert requests.take(2) == [(A, Waiting(A)), (B, Waiting(B))]
    places.gone.add(A)

    assert requests.refute(A, 5.0)
    assert not requests.refute(B, 5.0)
    assert requests.take(2) == [(A, None)]
    requests.release_postponed(5.0)
    assert requests.take(2) == [(B, Waiting(B))]
