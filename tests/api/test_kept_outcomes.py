"""Outcomes that are kept: any number of programs read them, and none takes them away."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import gc
import json
from collections.abc import Callable

import pytest

from herdmaster import Herd
from tests.api import tasks
from tests.api.conftest import run_roles
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until


def test_a_kept_result_is_read_again_and_again_here_and_elsewhere(
    app: App, served: str, znodes: Callable[[str], Znodes], make_herd: Callable[..., Herd]
) -> None:
    future = app.add.options(keep_outcome=600).submit(2, 3)
    assert future.result(10) == 5
    name = future.name
    del future
    gc.collect()

    assert [app.herd.future(name).result(10) for _ in range(2)] == [5, 5]
    assert [make_herd(served).future(name).result(10) for _ in range(2)] == [5, 5]
    assert app.add.submit(1, 1).result(10) == 2  # whatever was on its way has arrived
    status = json.loads(znodes(served).read(f"status/{name}"))
    assert (status["keep"], status["ttl"]) == (True, 600.0)


def test_a_future_that_exists_does_not_take_a_kept_outcome_from_others(
    app: App, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    future = app.wait.options(keep_outcome=True).submit(gate)
    tasks.gates[gate].set()
    wait_until(future.done, "it has ended")

    assert make_herd(served).future(future.name).result(10) == gate
    assert future.result(10) == gate


@pytest.mark.parametrize("ignored", [False, True])
def test_a_failure_is_kept_as_well_and_an_outcome_that_is_not_kept_is_collected(
    app: App, served: str, znodes: Callable[[str], Znodes], ignored: bool
) -> None:
    kept = app.fail.options(keep_outcome=True)
    future = (kept.options(keep_outcome=False) if ignored else kept).submit("KeyError", "k")
    with pytest.raises(KeyError):
        future.result(10)

    if ignored:
        znodes(served).wait_gone(f"status/{future.name}")
    else:
        with pytest.raises(KeyError):
            app.herd.future(future.name).result(10)


@pytest.mark.long
def test_the_results_of_a_map_are_kept_task_by_task(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    with run_roles(namespace):
        assert list(quiet.add.options(keep_outcome=60).map(range(4), range(4), chunksize=2)) == [0, 2, 4, 6]
        assert quiet.add.submit(1, 1).result(10) == 2
        wait_until(lambda: len(znodes(namespace).children("status")) == 2, "only the chunks are kept")
