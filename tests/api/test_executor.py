"""`HerdExecutor` against what the standard library promises of executors, line by line of docs/guides/executor.md."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import math
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from herdmaster import (
    ConfigurationError,
    Herd,
    HerdClosed,
    HerdExecutor,
    NotSerializable,
    TaskFailed,
    UnknownCall,
    WrongArguments,
)
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.apache import ApacheZooKeeper
from herdmaster.testing.running import RunningRoles
from tests.api import importable, tasks
from tests.api.conftest import SESSION_TIMEOUT
from tests.api.importable import Box, power, refuse, wait, widen
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until

pytestmark = pytest.mark.long

T = TypeVar("T")

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "executor.md"


@pytest.fixture(scope="module")
def hosts(apache: ApacheZooKeeper) -> Iterator[str]:
    """A namespace with a worker that may import one module of the tests', and `math`."""
    hosts = f"{apache.hosts}/executor-{uuid.uuid4().hex}"
    settings = WorkerSettings(SESSION_TIMEOUT, slots=8, queues=("default", "mail"), drain_timeout=5.0)
    allowed = ("tests.api.importable", "math")
    worker = Worker(hosts, tasks.registered(), settings, lambda _name, _data: None, allow_import=allowed)
    with RunningRoles(worker, Master(hosts, MasterSettings(SESSION_TIMEOUT))):
        yield hosts


@pytest.fixture
def herd(hosts: str, make_herd: Callable[..., Herd]) -> Herd:
    return make_herd(hosts)


@pytest.fixture
def executor(herd: Herd) -> Iterator[HerdExecutor]:
    made = HerdExecutor(herd)
    yield made
    made.shutdown(wait=False)


@pytest.fixture
def gate() -> Iterator[str]:
    """A gate that `wait` waits at; it is opened at the end at the latest."""
    name = importable.new_gate()
    yield name
    importable.gates[name].set()


def test_every_line_of_the_guide_is_a_test() -> None:
    lines = re.findall(r"^\| (.+?) \| .+ \|$", GUIDE.read_text(), re.MULTILINE)[1:]
    names = {f"test_{re.sub('[^a-z0-9]+', '_', line.lower())}" for line in lines}

    assert len(names) == len(lines) == 30
    assert names <= set(globals())


# --- submit -----------------------------------------------------------------------------------------------------------


def test_submit_returns_a_future_that_has_what_the_function_returned(executor: HerdExecutor) -> None:
    future = executor.submit(power, 3)

    assert isinstance(future, concurrent.futures.Future)
    assert future.result(20) == 9
    assert future.done()
    assert executor.submit(math.gcd, 12, 18).result(20) == 6


def test_submit_does_not_wait(unreachable: str, make_herd: Callable[..., Herd]) -> None:
    herd = make_herd(unreachable, submit_timeout=30.0, connect_timeout=0.2)
    future = HerdExecutor(herd).submit(power, 3)

    assert not future.done()


def test_keyword_arguments_are_passed_on(executor: HerdExecutor) -> None:
    assert executor.submit(power, base=2, exponent=5).result(20) == 32
    assert executor.submit(functools.partial(power, 2, exponent=3)).result(20) == 8


def test_result_and_exception_take_a_timeout_and_the_future_goes_on(executor: HerdExecutor, gate: str) -> None:
    future = executor.submit(wait, gate)

    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.05)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(0.05)
    importable.gates[gate].set()
    assert future.result(20) == gate
    assert future.exception() is None


def test_an_exception_of_the_function_is_raised_by_result(executor: HerdExecutor) -> None:
    builtin, own = executor.submit(refuse, "a"), executor.submit(importable.break_down)

    with pytest.raises(ValueError, match="no text: a") as raised:
        builtin.result(20)
    assert isinstance(raised.value.__cause__, TaskFailed)
    assert "importable.py" in raised.value.__cause__.traceback
    error = own.exception(20)
    assert isinstance(error, TaskFailed)
    assert (error.type, error.message) == ("tests.api.importable.Broken", "down")


def test_a_done_callback_is_called_with_the_future(executor: HerdExecutor, gate: str) -> None:
    future = executor.submit(wait, gate)
    called: list[object] = []
    future.add_done_callback(called.append)
    assert called == []

    importable.gates[gate].set()
    wait_until(lambda: called == [future], "it is called")
    future.add_done_callback(called.append)
    assert called == [future, future]


def test_wait_and_as_completed_take_the_futures(executor: HerdExecutor, gate: str) -> None:
    slow: concurrent.futures.Future[object] = executor.submit(wait, gate)
    quick: concurrent.futures.Future[object] = executor.submit(power, 2)

    done, left = concurrent.futures.wait([slow, quick], timeout=20, return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, left) == ({quick}, {slow})
    ended = concurrent.futures.as_completed([slow, quick], timeout=20)
    assert next(ended) is quick
    importable.gates[gate].set()
    assert next(ended) is slow


# --- map --------------------------------------------------------------------------------------------------------------


def test_map_gives_results_in_the_order_of_the_items(executor: HerdExecutor) -> None:
    assert list(executor.map(power, range(20), [2] * 30)) == [number**2 for number in range(20)]
    assert list(executor.map(power, [])) == []


def test_map_takes_everything_from_the_iterables_at_once(executor: HerdExecutor) -> None:
    source = iter(range(30))
    results = executor.map(power, source)

    assert next(source, None) is None
    assert len(list(results)) == 30


def test_map_with_a_buffersize_takes_only_so_many_items_ahead(executor: HerdExecutor) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    for done, result in enumerate(executor.map(power, source(), buffersize=4)):
        assert result == done**2
        assert len(taken) <= done + 5
    assert len(taken) == 30
    with pytest.raises(ConfigurationError, match="buffersize=3"):
        executor.map(power, [1], buffersize=3, chunksize=4)


def test_map_raises_an_exception_when_its_value_is_asked_for(executor: HerdExecutor) -> None:
    for chunksize in (1, 2):
        results = executor.map(refuse, [1, "two", 3], chunksize=chunksize)

        assert next(results) == 1
        with pytest.raises(ValueError, match="no text: two"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_map_counts_its_timeout_from_the_call(executor: HerdExecutor, gate: str) -> None:
    results = executor.map(wait, [gate], timeout=0.1)
    assert importable.reached[gate].wait(20)
    time.sleep(0.15)
    before = time.monotonic()
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)
    assert time.monotonic() - before < 10


def test_map_sends_chunks(executor: HerdExecutor, herd: Herd, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    core = herd._core
    begin = core.begin_chunk

    def noting(*args: object) -> object:
        items = args[1]
        assert isinstance(items, list)
        sizes.append(len(items))
        return begin(*args)  # type: ignore[arg-type]  # passed through as it came

    monkeypatch.setattr(core, "begin_chunk", noting)

    assert list(executor.map(power, range(25), chunksize=10)) == [number**2 for number in range(25)]
    assert sizes == [10, 10, 5]


def test_map_cancels_what_is_left_when_it_ends_early(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    executor = HerdExecutor(quiet.herd)
    results = executor.map(power, range(5), timeout=0.05)

    with pytest.raises(TimeoutError):
        next(results)
    wait_until(lambda: len(znodes(namespace).children("cancel")) == 5, "all five are asked to be cancelled")


# --- the end ----------------------------------------------------------------------------------------------------------


def test_submitting_after_shutdown_raises_runtimeerror(executor: HerdExecutor) -> None:
    executor.shutdown()

    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(power, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(power, [1])


def test_shutdown_waits_for_what_was_submitted(executor: HerdExecutor, gate: str) -> None:
    futures: list[concurrent.futures.Future[object]] = [executor.submit(wait, gate), executor.submit(power, 2)]
    threading.Timer(0.2, importable.gates[gate].set).start()

    executor.shutdown()
    assert all(future.done() for future in futures)


def test_shutdown_without_waiting_returns_at_once_and_the_futures_go_on(executor: HerdExecutor, gate: str) -> None:
    future = executor.submit(wait, gate)

    executor.shutdown(wait=False)
    assert not future.done()
    importable.gates[gate].set()
    assert future.result(20) == gate


def test_shutdown_may_be_called_several_times(executor: HerdExecutor) -> None:
    future = executor.submit(power, 2)
    executor.shutdown(wait=False)
    executor.shutdown()
    executor.shutdown(cancel_futures=True)

    assert future.result() == 4


def test_shutdown_can_cancel_the_futures(namespace: str, make_herd: Callable[..., Herd]) -> None:
    executor = HerdExecutor(make_herd(namespace))
    futures = [executor.submit(power, number) for number in range(3)]

    with RunningRoles(Master(namespace, MasterSettings(SESSION_TIMEOUT))):
        executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    with pytest.raises(concurrent.futures.CancelledError):
        futures[0].result()


def test_a_with_block_waits_for_what_was_submitted(herd: Herd) -> None:
    with HerdExecutor(herd) as executor:
        futures = [executor.submit(power, number) for number in range(10)]
    assert all(future.done() for future in futures)
    assert herd.task(tasks.echo).submit(1).result(20) == 1  # the Herd is open still


def test_a_broken_executor_refuses_to_submit(executor: HerdExecutor, herd: Herd) -> None:
    assert executor.submit(power, 2).result(20) == 4
    herd.close()

    with pytest.raises(concurrent.futures.BrokenExecutor, match="this Herd is closed"):
        executor.submit(power, 2)
    with pytest.raises(HerdClosed):
        executor.map(power, [1, 2])


def test_the_futures_of_a_broken_executor_fail_with_brokenexecutor(
    executor: HerdExecutor, herd: Herd, hosts: str, gate: str, make_herd: Callable[..., Herd]
) -> None:
    future = executor.submit(wait, gate)
    assert importable.reached[gate].wait(20)
    herd.close()

    with pytest.raises(concurrent.futures.BrokenExecutor, match=r"herd\.future\(name\)"):
        future.result(20)
    importable.gates[gate].set()
    assert make_herd(hosts).future(future.name).result(20) == gate
    executor.shutdown()


def test_the_program_does_not_end_before_its_futures(hosts: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from herdmaster import Herd, HerdExecutor\n"
        "from tests.api.importable import wait\n"
        "herd = Herd(sys.argv[1])\n"
        "future = HerdExecutor(herd).submit(wait, sys.argv[2])\n"
        "herd.task(wait).submit(sys.argv[3])\n"
        "print(future.name)\n"
    )
    gates = [importable.new_gate(), importable.new_gate()]
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, str(program), hosts, *gates],
        env={"PYTHONPATH": str(root), "PATH": ""}, capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip

    assert ended.stderr == ""
    assert importable.reached[gates[0]].wait(20)
    for gate in gates:
        importable.gates[gate].set()
    with Herd(hosts) as herd:
        assert herd.future(ended.stdout.strip()).result(20) == gates[0]


# --- event loops ------------------------------------------------------------------------------------------------------


async def test_run_in_executor_works_in_an_event_loop(executor: HerdExecutor) -> None:
    loop = asyncio.get_running_loop()
    found = await asyncio.gather(*(loop.run_in_executor(executor, power, number) for number in range(10)))

    assert found == [number**2 for number in range(10)]
    with pytest.raises(ValueError, match="no text"):
        await loop.run_in_executor(executor, refuse, "x")
    assert await loop.run_in_executor(executor, functools.partial(power, exponent=3), 2) == 8


async def test_cancelling_in_an_event_loop_does_not_block_it(executor: HerdExecutor, gate: str) -> None:
    waiting = asyncio.get_running_loop().run_in_executor(executor, wait, gate)
    await asyncio.to_thread(importable.reached[gate].wait, 20)
    before = time.monotonic()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert time.monotonic() - before < 10


async def test_an_executor_can_be_shut_down_in_an_event_loop(quiet: App) -> None:
    executor = HerdExecutor(quiet.herd)
    future = executor.submit(power, 2)
    executor.shutdown(wait=False, cancel_futures=True)

    assert not future.done()


# --- what can be submitted --------------------------------------------------------------------------------------------


def test_any_function_at_the_top_level_of_a_module_can_be_submitted(executor: HerdExecutor, herd: Herd) -> None:
    task = herd.task(tasks.add)

    assert executor.submit(task, 1, 2).result(20) == 3
    assert executor.submit(tasks.add, 1, 2).result(20) == 3  # the worker's app has it
    assert executor.submit(power, 2).result(20) == 4
    assert isinstance(executor.submit(herd.task(math_like), 1).exception(55), UnknownCall)


def math_like(value: int) -> int:
    """Of a module that the worker may not import."""
    return value


def test_a_function_that_no_worker_can_find_is_refused(executor: HerdExecutor, make_herd: Callable[..., Herd]) -> None:
    def inner() -> None: ...

    for function in (lambda: None, inner, Box.__init__, Box, executor.submit, "".join):
        with pytest.raises(ConfigurationError, match="no worker could find it"):
            executor.submit(function)  # type: ignore[call-overload]  # what is refused
    with pytest.raises(ConfigurationError, match="is a task of another Herd"):
        executor.submit(make_herd("localhost:1").task(tasks.add), 1, 2)


def test_arguments_and_results_are_pickled(executor: HerdExecutor) -> None:
    assert executor.submit(widen, Box(1, Path("a")), 2).result(20) == Box(3, Path("a/2"))
    boxes = [Box(number, Path("b")) for number in range(5)]
    assert list(executor.map(widen, boxes, range(5), chunksize=2))[4] == Box(8, Path("b/4"))
    with pytest.raises(WrongArguments, match=r"takes `box: tests\.api\.importable\.Box`"):
        executor.submit(widen, 5, 2)  # type: ignore[call-overload]  # what is refused


def test_arguments_that_cannot_be_sent_fail(executor: HerdExecutor) -> None:
    with pytest.raises(NotSerializable, match="argument 1"):
        executor.submit(refuse, object())
    results = executor.map(refuse, [1, object()])
    assert next(results) == 1
    with pytest.raises(NotSerializable):
        next(results)


def test_the_number_of_workers_is_the_executor_s(herd: Herd) -> None:
    for option in ("max_workers", "initializer"):
        with pytest.raises(TypeError, match=f"{option}= is no option"):
            HerdExecutor(herd, **{option: 4})  # type: ignore[arg-type]  # what is refused


# --- callers ----------------------------------------------------------------------------------------------------------


def bar_over(items: Iterable[T], total: int) -> Iterator[T]:
    """As tqdm is used around `executor.map`."""
    count = 0
    for item in items:
        count += 1
        yield item
    assert count == total


def test_a_progress_bar_around_map_gets_every_result(executor: HerdExecutor) -> None:
    numbers = range(40)

    assert list(bar_over(executor.map(power, numbers, chunksize=7), total=len(numbers))) == [n**2 for n in numbers]


def test_a_progress_bar_around_as_completed_gets_every_future(executor: HerdExecutor) -> None:
    futures: dict[concurrent.futures.Future[int], int] = {executor.submit(power, n): n for n in range(20)}

    for future in bar_over(concurrent.futures.as_completed(futures, timeout=30), total=len(futures)):
        assert future.result() == futures[future] ** 2


def test_options_hold_for_everything_that_is_submitted(herd: Herd) -> None:
    executor = HerdExecutor(herd, queue="mail", priority=7)

    assert executor.submit(power, 2).name.endswith(".mail.p7")
    assert executor.submit(herd.task(queue="other")(tasks.echo), 2).name.endswith(".mail.p7")
    with pytest.raises(ConfigurationError):
        HerdExecutor(herd, max_attempts=0)
