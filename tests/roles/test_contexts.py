"""Context variables: each task begins with what the worker had at its start, whatever others have set."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.options import PoolKind
from herdmaster.core.outcome import decode_outcome, decode_result
from herdmaster.running.hooks import Hooks
from tests.roles import contexts
from tests.roles.stage import Stage, call_payload, new_call_name

pytestmark = pytest.mark.long


@pytest.mark.parametrize("pool", PoolKind)
async def test_what_a_task_sets_is_seen_by_its_hooks_and_by_no_other_task(
    stage: Stage, pool: PoolKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "seen", [])
    hooks = Hooks(
        before_task=contexts.before_task,
        after_task=contexts.after_task,
        on_worker_start=(lambda: contexts.user.set("start"),),
    )
    worker = await stage.worker(contexts.functions(pool), slots=1, hooks=hooks, app=contexts.APP)
    names = [new_call_name() for _ in range(8)]
    for name in names:
        await stage.put(layout.assignment_path(worker.name, name), data=call_payload("m:look", name))

    for name in names:
        await stage.until_exists(layout.status_path(name))
        outcome = decode_outcome(name, await stage.data(layout.status_path(name)))
        assert decode_result(outcome) == f"start hooked, then {name}"
    assert sorted(contexts.seen) == ([] if pool is PoolKind.PROCESS else sorted(names))
    assert contexts.user.get() == "nothing"
