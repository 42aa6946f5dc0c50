"""What a worker does about each refusal that its moves can get."""

from __future__ import annotations

import pytest

from herdmaster.core import transitions
from herdmaster.core.keys import HeldKey
from herdmaster.core.table import Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.worker.refusals import Remedy, remedy

TASK, W = "task-a", "worker-w"
KEY = HeldKey("0" * 32, has_hold=True)
COMPLETE = transitions.complete(W, TASK, b"done")
KEYED = transitions.complete(W, TASK, b"done", KEY)
BURY = transitions.bury(W, TASK, b"payload", b"failed", KEY)
START = transitions.mark_start(W, TASK, b"payload")


@pytest.mark.parametrize(
    ("move", "verdict", "found"),
    [
        (COMPLETE, Verdict.RACE_LOST, Remedy.LET_GO),
        (COMPLETE, Verdict.DROP_ASSIGNMENT, transitions.drop_assignment_because_status(W, TASK)),
        (COMPLETE, Verdict.DECIDE_AGAIN, transitions.complete(W, TASK, None)),
        (KEYED, Verdict.WITHOUT_KEY, COMPLETE),
        (BURY, Verdict.ALREADY_BURIED, transitions.complete(W, TASK, b"failed", KEY)),
        (START, Verdict.RACE_LOST, Remedy.LET_GO),
        (START, Verdict.UNEXPECTED, Remedy.FAIL),
        (START, None, Remedy.FAIL),
        (COMPLETE, Verdict.KEEP_AND_TRY_LATER, Remedy.TRY_LATER),
        (COMPLETE, Verdict.FOLDER_MISSING, Remedy.TRY_LATER),
        (COMPLETE, Verdict.UNEXPECTED, Remedy.SET_ASIDE),
        (COMPLETE, None, Remedy.SET_ASIDE),
    ],
)
def test_a_refused_move_is_replaced_or_its_task_gets_a_remedy(
    move: Move, verdict: Verdict | None, found: Move | Remedy
) -> None:
    assert remedy(W, move, verdict) == found
