"""The fallbacks are put back as they were, each where it was."""

from __future__ import annotations

from herdmaster.api import loop_thread
from herdmaster.roles.worker import worker_hooks
from tests.fallbacks import Switch


def test_constants_of_one_name_in_two_modules_get_their_own_values_back() -> None:
    before = [vars(module)["_CANCEL_SECONDS"] for module in (loop_thread, worker_hooks)]
    assert before[0] != before[1]
    switch = Switch()
    for _ in range(3):
        switch.leave(())
        assert min(vars(module)["_CANCEL_SECONDS"] for module in (loop_thread, worker_hooks)) > 1000
        switch.leave(None)
        assert [vars(module)["_CANCEL_SECONDS"] for module in (loop_thread, worker_hooks)] == before
