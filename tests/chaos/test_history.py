from __future__ import annotations

from chaos.history import Historian, History
from chaos.transactions import Change, Kind, Transaction

TASK = "task-00000000000000000000000000.default"
WORKER = "worker-00000000000000aa"
PRIMARY, OTHER, CLIENT = 1, 2, 3


def created(path: str) -> Change:
    return Change(Kind.CREATED, f"/ns{path}")


def deleted(path: str) -> Change:
    return Change(Kind.DELETED, f"/ns{path}")


def journal() -> Change:
    return Change(Kind.SET, "/ns/clients/client-1")


def tell(historian: Historian, *transactions: tuple[int, tuple[Change, ...]]) -> History:
    first = historian.last_zxid + 1
    return historian.tell(
        Transaction(zxid, session, zxid * 1000, changes) for zxid, (session, changes) in enumerate(transactions, first)
    )


ELECTED = (PRIMARY, (created("/master"),))
SUBMITTED = (CLIENT, (journal(), created(f"/tasks/{TASK}")))


def assigned(session: int) -> tuple[int, tuple[Change, ...]]:
    return session, (deleted(f"/tasks/{TASK}"), created(f"/assign/{WORKER}/{TASK}"))


def test_a_task_is_followed_from_its_submission_to_its_collection() -> None:
    completed = (4, (deleted(f"/assign/{WORKER}/{TASK}"), created(f"/status/{TASK}")))
    history = tell(
        Historian("/ns"), ELECTED, SUBMITTED, assigned(PRIMARY), completed, (CLIENT, (deleted(f"/status/{TASK}"),))
    )
    assert history.submitted == {TASK: 1}
    assert history.submitters == {TASK: "client-1"}
    assert [(each.worker, each.session, each.at) for each in history.assignments] == [(WORKER, PRIMARY, 3000)]
    assert history.outcomes == {TASK: 1}
    assert history.ended_at == {TASK: 4000}
    assert history.collected == {TASK: 1}
    assert history.intrusions == []


def test_a_task_that_goes_back_is_not_submitted_again() -> None:
    back = (PRIMARY, (deleted(f"/assign/{WORKER}/{TASK}"), created(f"/tasks/{TASK}")))
    assert tell(Historian("/ns"), ELECTED, SUBMITTED, assigned(PRIMARY), back).submitted == {TASK: 1}


def test_a_delayed_task_is_submitted_under_its_own_name() -> None:
    submitted = (CLIENT, (journal(), created(f"/delayed/0000000000001-{TASK}")))
    assert tell(Historian("/ns"), submitted).submitted == {TASK: 1}


def test_two_outcomes_of_a_task_are_two() -> None:
    history = tell(Historian("/ns"), (4, (created(f"/status/{TASK}"),)), (5, (created(f"/status/{TASK}"),)))
    assert history.outcomes == {TASK: 2}


def test_who_does_not_own_master_intrudes_by_assigning() -> None:
    assert len(tell(Historian("/ns"), ELECTED, SUBMITTED, assigned(OTHER)).intrusions) == 1


def test_a_primary_whose_session_has_ended_intrudes_by_assigning() -> None:
    historian = Historian("/ns")
    tell(historian, ELECTED, SUBMITTED)
    historian.tell([Transaction(10, PRIMARY, 0, (), ends_session=True)])
    assert len(tell(historian, assigned(PRIMARY)).intrusions) == 1


def test_who_is_primary_is_remembered_from_one_part_to_the_next() -> None:
    historian = Historian("/ns")
    tell(historian, ELECTED)
    assert tell(historian, SUBMITTED, assigned(PRIMARY)).intrusions == []


def test_a_fork_leaves_the_historian_as_it_was() -> None:
    historian = Historian("/ns")
    tell(historian, ELECTED)
    tell(historian.fork(), (OTHER, (created("/master"),)))
    assert historian.last_zxid == 1
    assert historian.is_primary(PRIMARY)
    assert not historian.is_primary(OTHER)


def test_what_happens_outside_of_the_namespace_is_ignored() -> None:
    history = Historian("/ns").tell([Transaction(1, 1, 0, (Change(Kind.CREATED, f"/nsx/status/{TASK}"),))])
    assert history.outcomes == {}


def doubtful(session: int, *changes: Change, zxid: int = 50, ends_session: bool = False) -> Transaction:
    return Transaction(zxid, session, 0, changes, ends_session, is_doubtful=True)


def test_what_is_doubtful_counts_where_nothing_else_is_known() -> None:
    historian = Historian("/ns")
    assert historian.tell([doubtful(4, created(f"/status/{TASK}"))]).outcomes == {TASK: 1}


def test_what_is_doubtful_does_not_make_two_of_one() -> None:
    certain = Transaction(51, 4, 0, (created(f"/status/{TASK}"),))
    history = Historian("/ns").tell([doubtful(4, created(f"/status/{TASK}")), certain])
    assert history.outcomes == {TASK: 1}


def test_a_doubtful_end_of_a_session_leaves_it_primary_and_a_doubtful_election_adds_one() -> None:
    historian = Historian("/ns")
    tell(historian, ELECTED)
    historian.tell([doubtful(PRIMARY, ends_session=True), doubtful(OTHER, created("/master"), zxid=51)])
    assert historian.is_primary(PRIMARY)
    assert historian.is_primary(OTHER)
    historian.tell([Transaction(52, 9, 0, (created("/master"),))])
    assert [each for each in (PRIMARY, OTHER, 9) if historian.is_primary(each)] == [9]
