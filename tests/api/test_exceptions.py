"""Exception classes that an app registers come back from its tasks as themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from herdmaster import ConfigurationError, Herd, TaskFailed
from herdmaster.api.executor import HerdExecutor
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.conftest import SESSION_TIMEOUT


class OutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(f"{item}: {left} left")
        self.item = item
        self.left = left


def buy(item: str) -> None:
    raise OutOfStock(item, 2)


def buy_other(item: str) -> None:
    raise tasks.Broken(item)


@pytest.mark.long
def test_a_registered_exception_is_raised_by_all_that_waits(namespace: str, make_herd: Callable[..., Herd]) -> None:
    herd = make_herd(namespace)
    task, other = herd.task(raises=OutOfStock)(buy), herd.task(buy_other)
    unaware = make_herd(namespace)
    worker = Worker(herd.hosts, herd._core.registry.functions, WorkerSettings(SESSION_TIMEOUT, slots=2))
    with RunningRoles(worker, Master(herd.hosts, MasterSettings(SESSION_TIMEOUT))):
        waits: tuple[Callable[[], object], ...] = (
            lambda: task.submit("tea").result(30),
            lambda: list(task.map(["tea"], chunksize=2)),
            lambda: herd.submit_call(task.call, ["tea"]).result(30),
            lambda: herd.future(unaware.submit_call(task.call, ["tea"]).name).result(30),
            lambda: HerdExecutor(herd).submit(task, "tea").result(30),
        )
        for wait in waits:
            with pytest.raises(OutOfStock, match=r"^tea: 2 left$") as raised:
                wait()
            assert (raised.value.item, raised.value.left) == ("tea", 2)
            assert isinstance(raised.value.__cause__, TaskFailed)
            assert "in buy" in raised.value.__cause__.traceback

        with pytest.raises(TaskFailed, match=r"tests\.api\.test_exceptions\.OutOfStock: tea: 2 left"):
            unaware.submit_call(task.call, ["tea"]).result(30)
        with pytest.raises(TaskFailed, match=r"Broken: tea"):
            other.submit("tea").result(30)
        herd.exceptions(tasks.Broken)  # after the worker has started
        with pytest.raises(tasks.Broken, match=r"^tea$"):
            other.submit("tea").result(30)


def test_it_is_a_decorator_and_takes_several() -> None:
    herd = Herd("localhost:1")

    @herd.exceptions
    class Local(Exception):
        pass

    assert herd.exceptions(OutOfStock, tasks.Broken, ValueError) is OutOfStock
    herd.task(tasks.add).options(raises=[OutOfStock, KeyError])
    names = {name.rpartition(".")[2]: kind for name, kind in herd._core.registry.exceptions.items()}
    assert names == {"Local": Local, "OutOfStock": OutOfStock, "Broken": tasks.Broken}


@pytest.mark.parametrize("value", ["ValueError", ValueError("x"), KeyboardInterrupt, StopIteration, int, None, [5]])
def test_what_is_no_class_of_exceptions_is_refused(value: object) -> None:
    herd = Herd("localhost:1")

    with pytest.raises(ConfigurationError, match="is no class of exceptions that a task may fail with"):
        herd.exceptions(*value if isinstance(value, list) else [value])
    with pytest.raises(ConfigurationError, match=r"raises: .* is no class of exceptions"):
        herd.task(raises=value)  # type: ignore[call-overload]  # that is the test
