from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chaos.history import History
from chaos.judgement import Evidence, Judgement, judge
from chaos.records import Accepted, Executed, Gone, Noted, Refused, Told, Unknown

T1, T2 = "task-1", "task-2"
CLIENT, AGAIN = "c1", "c1 again"


def history(
    *tasks: str,
    submitted: Sequence[str] = (),
    outcomes: Sequence[str] = (),
    collected: Sequence[str] | None = None,
    buried: Sequence[str] = (),
) -> History:
    """Each task was submitted, has ended and was collected once; `submitted` and `outcomes` are further ones."""
    return History(
        submitted=Counter((*tasks, *submitted)),
        outcomes=Counter((*tasks, *outcomes)),
        collected=Counter(tasks if collected is None else collected),
        buried=Counter(buried),
        ended_at=dict.fromkeys(tasks, 5000),
    )


def notes(*tasks: str) -> list[Noted]:
    """Each was accepted and told; its tag is its name with an x."""
    found: list[Noted] = []
    for task in tasks:
        found += [Accepted(f"x{task}", task), Told(task, f"x{task}")]
    return found


def executions(*tasks: str) -> list[Executed]:
    return [Executed(f"x{task}", 1, 4.0) for task in tasks]


def judge_it(
    noted: Sequence[Noted],
    past: History,
    ran: Sequence[Executed] | None = None,
    *,
    again: Sequence[Noted] = (),
    remains: Sequence[str] = (),
    faults: Sequence[str] = (),
) -> Judgement:
    found = Evidence(
        notes={CLIENT: noted, AGAIN: again},
        executions=executions(T1, T2) if ran is None else ran,
        history=past,
        remains=remains,
        faults=faults,
        successors=frozenset({AGAIN}),
    )
    return judge(found)


def test_what_ended_once_and_was_told_once_is_clean() -> None:
    judgement = judge_it(notes(T1, T2), history(T1, T2))
    assert judgement.is_clean
    assert judgement.complaints == []
    assert (judgement.accepted, judgement.outcomes, judgement.reruns) == (2, 2, 0)


def test_a_task_that_was_accepted_and_never_ended_is_lost() -> None:
    judgement = judge_it([*notes(T1), Accepted("xtask-2", T2)], history(T1, submitted=[T2]))
    assert judgement.lost == [f"{T2} never ended"]
    assert not judgement.is_clean


def test_a_task_that_was_acknowledged_and_is_in_no_transaction_is_lost() -> None:
    judgement = judge_it([*notes(T1), Accepted("xtask-2", T2)], history(T1))
    assert f"{T2} was acknowledged, and never committed" in judgement.lost


def test_a_task_that_its_client_was_killed_over_is_lost_all_the_same() -> None:
    judgement = judge_it(notes(T1), history(T1, submitted=[T2]))
    assert judgement.lost == [f"{T2} never ended"]


def test_an_outcome_that_was_told_to_no_client_is_lost() -> None:
    judgement = judge_it([*notes(T1), Accepted("xtask-2", T2)], history(T1, T2))
    assert judgement.lost == [f"{T2} ended, and no client was told"]


def test_a_successor_may_find_what_the_killed_one_had_collected_gone() -> None:
    assert judge_it([*notes(T1), Accepted("xtask-2", T2)], history(T1, T2), again=[Gone(T2)]).is_clean


def test_a_successor_may_not_find_gone_what_was_not_collected() -> None:
    noted = [*notes(T1), Accepted("xtask-2", T2)]
    judgement = judge_it(noted, history(T1, T2, collected=[T1]), again=[Gone(T2)])
    assert judgement.lost == [f"{T2} ended, and no client was told"]


def test_a_living_client_may_not_find_its_outcome_gone() -> None:
    judgement = judge_it([*notes(T1), Accepted("xtask-2", T2), Gone(T2)], history(T1, T2))
    assert judgement.lost == [f"{T2} ended, and no client was told"]


def test_a_doubtful_submission_that_never_was_may_be_gone() -> None:
    judgement = judge_it([*notes(T1), Unknown("xtask-2", T2), Gone(T2)], history(T1), executions(T1))
    assert judgement.is_clean
    assert judgement.unknown == 1


def test_a_task_that_was_submitted_twice_is_doubled() -> None:
    assert judge_it(notes(T1, T2), history(T1, T2, submitted=[T1])).doubled == [f"{T1} was submitted 2 times"]


def test_a_second_outcome_is_doubled() -> None:
    judgement = judge_it(notes(T1, T2), history(T1, T2, outcomes=[T1]))
    assert judgement.doubled == [f"{T1} has ended 2 times"]
    assert not judgement.is_clean


def test_an_outcome_that_two_were_told_is_doubled() -> None:
    judgement = judge_it(notes(T1, T2), history(T1, T2), again=[Told(T1, f"x{T1}")])
    assert judgement.doubled == [f"{T1} was told to its client 2 times"]


def test_a_submission_that_became_two_tasks_is_doubled() -> None:
    noted = [*notes(T1), Accepted(f"x{T1}", T2), Told(T2, f"x{T1}")]
    assert judge_it(noted, history(T1, T2)).doubled == [f"x{T1} was accepted 2 times, as {T1}, {T2}"]


def test_a_second_execution_is_counted_and_allowed() -> None:
    judgement = judge_it(notes(T1, T2), history(T1, T2), executions(T1, T1, T2))
    assert judgement.is_clean
    assert judgement.reruns == 1


def test_an_execution_after_the_outcome_is_counted() -> None:
    late = [*executions(T1, T2), Executed(f"x{T1}", 2, 6.0)]
    assert judge_it(notes(T1, T2), history(T1, T2), late).late_starts == 1


def test_a_task_that_is_done_without_having_run_is_wrong() -> None:
    judgement = judge_it(notes(T1, T2), history(T1, T2), executions(T1))
    assert judgement.wrong == [f"{T2} is done, and its code never ran"]


def test_another_tasks_result_is_wrong() -> None:
    noted = [*notes(T1), Accepted(f"x{T2}", T2), Told(T2, f"x{T1}")]
    assert judge_it(noted, history(T1, T2)).wrong == [f"{T2} should give x{T2} and gave x{T1}"]


def test_a_failure_is_wrong() -> None:
    noted = [*notes(T1), Accepted(f"x{T2}", T2), Told(T2, error="TaskFailed: boom")]
    assert judge_it(noted, history(T1, T2)).wrong == [f"{T2} failed: TaskFailed: boom"]


def test_a_submission_that_was_refused_is_wrong() -> None:
    judgement = judge_it([*notes(T1), Refused("x9", "not in time")], history(T1), executions(T1))
    assert judgement.wrong == ["x9 was refused: not in time"]


def test_a_task_that_was_given_up_on_is_wrong() -> None:
    assert judge_it(notes(T1), history(T1, buried=[T1])).wrong == [f"{T1} was given up on"]


def test_an_assignment_by_a_session_that_was_not_primary_is_wrong() -> None:
    past = history(T1)
    past.intrusions.append("another process assigned")
    assert judge_it(notes(T1), past).wrong == ["another process assigned"]


def test_a_znode_that_is_left_is_told() -> None:
    judgement = judge_it(notes(T1), history(T1), remains=["/status/task-1"])
    assert not judgement.is_clean
    assert judgement.complaints == ["/status/task-1 was left behind"]


def test_a_traceback_in_a_log_is_wrong() -> None:
    assert judge_it(notes(T1), history(T1), faults=["master 1: KeyError: 'x'"]).wrong == ["master 1: KeyError: 'x'"]
