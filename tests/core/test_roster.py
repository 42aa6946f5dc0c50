from __future__ import annotations

import pytest

from herdmaster.core.roster import MAX_PREFETCH, REFERENCE_WINDOW, Choice, Kind, Roster, Worker, WorkerState, kind_of

DEFAULT = frozenset({"default"})
ULID = "01arz3ndektsv4rrffq69g5fav"


def joined(roster: Roster, name: str, state: WorkerState | None = None, load: int = 0) -> Worker:
    roster.add(name, 0.0)
    roster.replace_assignments(name, {f"task-{number}" for number in range(load)}, lambda _task: False, 0.0)
    roster.set_state(name, state or WorkerState(4, DEFAULT))
    worker = roster.get(name)
    assert worker is not None
    return worker


def test_the_worker_with_most_free_slots_is_next() -> None:
    roster = Roster()
    joined(roster, "worker-a", load=3)
    joined(roster, "worker-b", load=1)
    joined(roster, "worker-c", WorkerState(2, DEFAULT))
    choice = Choice(roster, 0.0)

    chosen: list[str] = []
    while worker := choice.next_worker("default", Kind.CALL):
        worker.incoming.add(f"task-new-{len(chosen)}")
        chosen.append(worker.name)
    assert chosen == ["worker-b", "worker-c", "worker-b", "worker-a", "worker-c", "worker-b"]


def test_of_workers_with_as_many_free_slots_the_one_whose_turn_is_longest_ago_is_next() -> None:
    roster = Roster()
    workers = [joined(roster, name) for name in ("worker-a", "worker-b")]
    chosen = []
    for _ in range(4):  # each task ends before the next one comes
        worker = Choice(roster, 0.0).next_worker("default", Kind.CALL)
        assert worker is not None
        chosen.append(worker)

    assert chosen == workers * 2


def test_only_those_who_serve_the_queue_are_asked() -> None:
    roster = Roster()
    joined(roster, "worker-a", WorkerState(4, frozenset({"mail"})))
    choice = Choice(roster, 0.0)

    assert choice.next_worker("default", Kind.CALL) is None
    found = choice.next_worker("mail", Kind.CALL)
    assert found is not None
    assert found.name == "worker-a"


def test_calls_go_to_our_own_workers_only() -> None:
    roster = Roster()
    joined(roster, "worker-a", WorkerState(1, DEFAULT, reference=True))
    choice = Choice(roster, 0.0)

    assert choice.next_worker("default", Kind.CALL) is None
    assert choice.next_worker("default", Kind.RAW) is not None


def test_a_reference_worker_serves_no_queue_but_the_default() -> None:
    roster = Roster()
    joined(roster, "worker-a", WorkerState(1, DEFAULT, reference=True))

    assert Choice(roster, 0.0).next_worker("mail", Kind.RAW) is None


def test_a_reference_worker_gets_at_most_60_tasks() -> None:
    roster = Roster()
    worker = joined(roster, "worker-a", WorkerState(1, DEFAULT, reference=True))
    choice = Choice(roster, 0.0)
    while choice.next_worker("default", Kind.RAW):
        worker.incoming.add(f"task-{worker.load}")

    assert worker.load == REFERENCE_WINDOW == 60


@pytest.mark.parametrize("flaw", ["draining", "gone", "no inbox", "silent"])
def test_nothing_goes_to_a_worker_that_drains_or_is_gone_or_has_no_inbox_or_says_nothing(flaw: str) -> None:
    roster = Roster()
    worker = joined(roster, "worker-a", WorkerState(4, DEFAULT, draining=flaw == "draining"))
    if flaw == "gone":
        roster.remove("worker-a", 0.0)
    elif flaw == "no inbox":
        roster.remove_inbox("worker-a")
    elif flaw == "silent":
        worker.state = None

    assert Choice(roster, 0.0).next_worker("default", Kind.RAW) is None


def test_the_window_grows_with_short_tasks_at_once_and_shrinks_with_long_ones() -> None:
    worker = joined(Roster(), "worker-a")
    assert worker.window == 4
    worker.ended = 100
    worker.measure(0.1)
    assert worker.window == 4 + 250
    for step in range(1, 20):
        worker.measure(0.1 + step)
    assert worker.window == 4


def test_the_window_is_bounded() -> None:
    worker = joined(Roster(), "worker-a")
    worker.ended = 1_000_000
    worker.measure(0.1)

    assert worker.window == 4 + MAX_PREFETCH


def test_measuring_too_often_measures_nothing() -> None:
    worker = joined(Roster(), "worker-a")
    worker.ended = 1
    worker.measure(0.001)

    assert (worker.rate, worker.ended) == (0.0, 1)


def test_a_worker_is_forgotten_when_it_and_its_inbox_are_gone() -> None:
    roster = Roster()
    joined(roster, "worker-a")
    roster.remove("worker-a", 1.0)
    assert roster.get("worker-a") is not None
    roster.remove_inbox("worker-a")
    assert roster.get("worker-a") is None

    joined(roster, "worker-b")
    roster.remove_inbox("worker-b")
    assert roster.get("worker-b") is not None
    roster.remove("worker-b", 1.0)
    assert list(roster) == []


def test_listings_replace_who_is_alive_and_who_has_an_inbox() -> None:
    roster = Roster()
    joined(roster, "worker-a", load=1)
    joined(roster, "worker-b")
    roster.replace_alive(["worker-b", "worker-c"], 5.0)
    roster.replace_inboxes(["worker-a", "worker-c"], 5.0)

    found = {worker.name: (worker.alive, worker.inbox) for worker in roster}
    assert found == {"worker-a": (False, {"task-0"}), "worker-b": (True, None), "worker-c": (True, set())}
    lost = roster.get("worker-a")
    assert lost is not None
    assert lost.gone_since == 5.0


def test_what_was_gone_before_does_not_look_freshly_gone_after_each_listing() -> None:
    roster = Roster()
    roster.replace_inboxes(["worker-a"], 1.0)
    roster.replace_alive([], 50.0)
    roster.replace_inboxes(["worker-a"], 50.0)

    worker = roster.get("worker-a")
    assert worker is not None
    assert (worker.gone_since, worker.registered) == (1.0, False)


@pytest.mark.parametrize(
    ("state", "takes"),
    [
        (WorkerState(1, frozenset({"default"})), [Kind.RAW, Kind.CALL]),
        (WorkerState(1, frozenset({"default"}), flows=True), [Kind.RAW, Kind.CALL, Kind.STEP]),
        (WorkerState(1, frozenset({"default"}), calls=False, flows=True), [Kind.RAW]),
        (WorkerState(1, frozenset({"default"}), reference=True), [Kind.RAW]),
        (WorkerState(1, frozenset({"mail"}), flows=True), []),
    ],
)
def test_a_worker_is_given_what_it_can_run(state: WorkerState, takes: list[Kind]) -> None:
    worker = Worker("worker-1", 0.0)
    worker.state = state
    assert [kind for kind in Kind if worker.serves("default", kind)] == takes


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("task-a", Kind.RAW),
        ("task-f", Kind.RAW),
        (f"task-{ULID}.mail", Kind.CALL),
        (f"task-{ULID}.f", Kind.CALL),
        (f"task-{ULID}.f.f", Kind.STEP),
        (f"task-{ULID}.mail.p7.b.c.f", Kind.STEP),
    ],
)
def test_a_name_says_what_its_worker_has_to_be_able_to_run(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind


def test_a_step_is_not_passed_on_to_a_worker_that_knows_no_flows() -> None:
    roster = Roster()
    joined(roster, "worker-a", WorkerState(4, DEFAULT, flows=True))
    joined(roster, "worker-b")
    step = f"task-{ULID}.default.f"
    assert roster.redirect("worker-a", step, ("worker-a",)) == "worker-a"
    joined(roster, "worker-c", WorkerState(4, DEFAULT, flows=True))
    assert roster.redirect("worker-a", step, ("worker-a",)) == "worker-c"


CALL = "task-01jd0000000000000000000001.default"


def test_a_forwarded_call_goes_to_a_worker_that_was_not_asked() -> None:
    roster = Roster()
    first, second = joined(roster, "worker-a"), joined(roster, "worker-b", load=2)
    third = joined(roster, "worker-c", load=1)
    joined(roster, "worker-d", WorkerState(4, frozenset({"mail"})))
    first.incoming.add(CALL)

    assert roster.redirect("worker-a", CALL, ("worker-a",)) == "worker-c"
    assert CALL in third.incoming
    assert CALL not in first.incoming
    assert roster.redirect("worker-c", CALL, ("worker-a", "worker-c")) == "worker-b"
    assert CALL in second.incoming


def test_a_forwarded_call_waits_for_room_with_those_that_were_not_asked() -> None:
    roster = Roster()
    joined(roster, "worker-a")
    joined(roster, "worker-b", load=4)

    assert roster.redirect("worker-a", CALL, ("worker-a",)) is None


def test_a_call_that_all_were_asked_for_stays_where_it_is() -> None:
    roster = Roster()
    joined(roster, "worker-a")
    joined(roster, "worker-b", WorkerState(4, DEFAULT, draining=True))
    joined(roster, "worker-c", WorkerState(4, DEFAULT, calls=False))

    assert roster.redirect("worker-a", CALL, ("worker-a", "worker-z")) == "worker-a"
    assert roster.redirect("worker-b", CALL, ("worker-a",)) == "worker-b"
