"""Options: what may be written, what it becomes in ZooKeeper, and what is said about mistakes."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from kazoo.client import KazooClient

from herdmaster import ConfigurationError, Herd, InvalidName, OutcomeGone
from herdmaster.api.options import TaskOptions
from herdmaster.api.task import AsyncTask
from herdmaster.core.keys import hash_key
from herdmaster.core.layout import parse_delayed_name
from herdmaster.core.options import Overrides, PoolKind, RunOptions
from herdmaster.roles.client.due_times import DueTimes
from herdmaster.zookeeper.client.connection import boot_clock
from herdmaster.zookeeper.errors import InvalidConnectString
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes
from tests.begin_call import begin_call

Payload = Callable[[str], dict[str, Any]]


@pytest.fixture
def payload(kazoo: KazooClient, namespace: str) -> Payload:
    """`payload(path)`: the JSON that stands there."""

    def read(path: str) -> dict[str, Any]:
        data, _ = kazoo.get(f"{namespace[namespace.index('/') :]}/{path}")
        found: dict[str, Any] = json.loads(data)
        return found

    return read


def _options(**keywords: object) -> TaskOptions:
    return TaskOptions().changed(keywords)


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_attempts", 0, "it takes a whole number from 1"),
        ("max_attempts", True, "it takes a whole number from 1"),
        ("max_attempts", "3", "it takes a whole number from 1"),
        ("max_deliveries", 0, "it takes a whole number from 1"),
        ("max_backlog", 2.5, "it takes a whole number from 1"),
        ("max_tasks_per_process", -1, "it takes a whole number from 1"),
        ("backoff", -1, "it takes seconds or a timedelta, not below 0"),
        ("max_backoff", "1", "it takes seconds or a timedelta"),
        ("backoff", float("nan"), "it takes seconds or a timedelta"),
        ("delay", float("inf"), "at most a century"),
        ("delay", timedelta(seconds=-1), "not below 0"),
        ("delay", datetime.now(UTC), "it takes seconds or a timedelta"),
        ("at", 12.0, "it takes a datetime with a time zone"),
        ("at", datetime(2030, 1, 1), "has no time zone, so it could mean any"),  # noqa: DTZ001 - the mistake
        ("expires", datetime(2030, 1, 1), "has no time zone"),  # noqa: DTZ001 - as above
        ("expires", 0, "above 0"),
        ("soft_timeout", 0, "above 0"),
        ("timeout", True, "above 0"),
        ("outcome_ttl", 0, "above 0"),
        ("keep_outcome", 0, "above 0"),
        ("keep_outcome", "yes", "it takes True, False, seconds or a timedelta"),
        ("keep_outcome", None, "it takes True, False, seconds or a timedelta"),
        ("memory_limit", "much", "text such as '200MB'"),
        ("memory_limit", "200 parsecs", "text such as '200MB'"),
        ("memory_limit", 0, "a number of bytes above 0"),
        ("pool", "fork", "'thread' or 'asyncio' or 'process'"),
        ("retry_on", ValueError("x"), "exception classes, or names such as 'ValueError'"),
        ("retry_on", [int], "exception classes"),
        ("give_up_on", ["not a name"], "exception classes"),
        ("key", "", "text that is not empty, or a function"),
        ("key", 5, "text that is not empty, or a function"),
        ("on_duplicate", "ignore", "'return' or 'error'"),
        ("on_full", "drop", "'error' or 'wait'"),
        ("ignore_result", "yes", "it takes True or False"),
        ("queue", None, "the name of a queue"),
    ],
)
def test_a_value_that_cannot_work_is_refused_and_says_what_is_allowed(name: str, value: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        _options(**{name: value})
    assert f"{name}=" in str(caught.value)


def test_a_priority_that_is_no_number_is_refused_too() -> None:
    with pytest.raises(InvalidName, match="from 0 to 9"):
        _options(priority="high")


@pytest.mark.parametrize("call", ["nocolon", "m:", ":f", 5, None, b"m:f", len])
def test_what_is_no_calls_name_is_refused_at_once(quiet: App, call: str) -> None:
    with pytest.raises(ConfigurationError, match="it is text, MODULE:FUNCTION, such as shop"):
        quiet.herd.submit_call(call)
    assert quiet.herd._core._io_thread is None


@pytest.mark.parametrize("hosts", [["a:1", "b:2"], 5, b"a:1"])
def test_servers_are_named_as_text(hosts: str) -> None:
    with pytest.raises(InvalidConnectString, match="it is text, such as host1:2181,host2:2181/path"):
        Herd(hosts)


def test_an_unknown_option_names_the_one_that_is_closest(quiet: App) -> None:
    with pytest.raises(TypeError, match=r"max_retries= is no option of a task: did you mean max_attempts=\?"):
        quiet.herd.task(max_retries=3)  # type: ignore[call-overload]  # the mistake that is shown
    with pytest.raises(TypeError, match=r"prioritiy= is no option of a task: did you mean priority=\?"):
        quiet.add.options(prioritiy=3)  # type: ignore[call-arg]  # as above
    with pytest.raises(TypeError, match=r"min_backoff= is no option of a task: did you mean backoff=\?"):
        quiet.add.options(min_backoff=3)  # type: ignore[call-arg]  # as above
    with pytest.raises(TypeError, match="rate_limit= is no option of a task: `herd queues limit QUEUE --rate N`"):
        quiet.add.options(rate_limit="1/s")  # type: ignore[call-arg]  # as above
    with pytest.raises(TypeError, match=r"the options are queue, priority, max_attempts"):
        quiet.herd.submit_call("m:f", colour="red")  # type: ignore[call-arg]  # as above
    assert quiet.herd._core._io_thread is None


def test_options_that_contradict_each_other_are_refused(quiet: App) -> None:
    with pytest.raises(ConfigurationError, match="both say when"):
        _options(delay=1, at=datetime.now(UTC))
    with pytest.raises(ConfigurationError, match="both say how long"):
        _options(keep_outcome=5, outcome_ttl=6)
    with pytest.raises(ConfigurationError, match="that ignore_result=True does not want"):
        _options(keep_outcome=True).changed({"ignore_result": True})
    with pytest.raises(ConfigurationError, match="it could never run"):
        _options(delay=10, expires=5)
    with pytest.raises(ConfigurationError, match="it could never run"):
        _options(at=datetime(2030, 1, 2, tzinfo=UTC), expires=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigurationError, match=r"add: soft_timeout=5 has to be less than timeout=5"):
        quiet.add.options(soft_timeout=5, timeout=5)
    with pytest.raises(ConfigurationError, match=r'memory_limit= needs a process of its own: add pool="process"'):
        quiet.add.options(memory_limit="1GB")
    with pytest.raises(ConfigurationError, match="max_tasks_per_process= needs a process"):
        quiet.herd.task(max_tasks_per_process=5)(tasks.add)


async def _fetch(item: int) -> int:
    return item


def test_a_pool_that_cannot_run_the_function_is_refused(quiet: App) -> None:
    with pytest.raises(ConfigurationError, match="_fetch is an `async def`, which runs in an event loop"):
        quiet.herd.task(pool="thread")(_fetch)
    with pytest.raises(ConfigurationError, match="make it an `async def`, or leave pool= out"):
        quiet.herd.task(pool="asyncio")(tasks.add)
    with pytest.raises(ConfigurationError, match="make it an `async def`"):
        quiet.add.options(pool="asyncio")


# --- what the worker is given ----------------------------------------------------------------------------------------


def test_the_worker_is_given_the_function_and_how_to_run_it() -> None:
    herd = Herd("localhost:1")
    task = herd.task(
        max_attempts=5,
        backoff=timedelta(seconds=2),
        retry_on=(OSError, "shop.errors.OutOfStock"),
        give_up_on=json.JSONDecodeError,
        timeout=9,
        memory_limit="1.5GiB",
        pool="process",
    )(tasks.add)

    registration = herd._core.registry.functions[task.call]
    assert registration.function is tasks.add
    assert registration.options == RunOptions(
        max_attempts=5,
        backoff=2.0,
        retry_on=("OSError", "shop.errors.OutOfStock"),
        give_up_on=("json.decoder.JSONDecodeError",),
        timeout=9.0,
        memory_limit=3 * 2**29,
        pool=PoolKind.PROCESS,
    )


async def test_an_async_def_is_a_task_of_the_asyncio_pool_and_still_a_coroutine_function() -> None:
    herd = Herd("localhost:1")
    task = herd.task(_fetch)

    assert isinstance(task, AsyncTask)
    assert isinstance(task.options(queue="mail"), AsyncTask)
    assert herd._core.registry.functions[task.call].options.pool is PoolKind.ASYNCIO
    assert await task(5) == 5


def test_only_what_options_change_travels_with_the_task(quiet: App, payload: Payload) -> None:
    task = quiet.herd.task(max_attempts=3, timeout=60)(tasks.echo)
    plain = task.submit(1)
    other = task.options(max_attempts=3, backoff=0.5, timeout=None).submit(1)
    by_name = quiet.herd.submit_call("m:f", max_attempts=1)  # type: ignore[var-annotated]  # whatever it returns

    assert "options" not in payload(f"tasks/{plain.name}")
    assert payload(f"tasks/{other.name}")["options"] == {"backoff": 0.5, "timeout": None}
    assert payload(f"tasks/{by_name.name}")["options"] == {"max_attempts": 1}
    assert task._core.options.overrides == Overrides()


def test_options_add_up(quiet: App) -> None:
    first = quiet.add.options(max_attempts=3, delay=5, queue="mail")
    second = first.options(at=datetime(2030, 1, 1, tzinfo=UTC), timeout=7)

    assert second._core.options.delay is None  # the later word on when
    assert second._core.options.overrides == Overrides(max_attempts=3, timeout=7.0)
    assert second.queue == "mail"
    assert first._core.options.due_at is None


def test_the_envelope_says_what_the_submitter_wants(quiet: App, payload: Payload) -> None:
    future = quiet.add.options(max_deliveries=2, outcome_ttl=timedelta(hours=1), ignore_result=True, key="k").submit(
        2, 3
    )

    assert payload(f"tasks/{future.name}") == {
        "herd": 1,
        "call": "tests.api.tasks:add",
        "args": [2, 3],
        "kwargs": {},
        "attempt": 1,
        "deliveries": 0,
        "outcome": False,
        "max_deliveries": 2,
        "ttl": 3600.0,
        "key": hash_key("k", "tests.api.tasks:add"),
        "unique": {"key": "k"},
    }


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"keep_outcome": True}, (True, None)),
        ({"keep_outcome": timedelta(minutes=1)}, (True, 60.0)),
        ({"keep_outcome": True, "outcome_ttl": 5}, (True, 5.0)),
        ({"keep_outcome": False, "outcome_ttl": 5}, (False, 5.0)),
    ],
)
def test_a_time_to_keep_an_outcome_is_its_time_to_live(
    options: dict[str, object], wanted: tuple[bool, float | None]
) -> None:
    for order in (options, dict(reversed(options.items()))):
        found = _options(**order)
        assert (found.keep_outcome, found.outcome_ttl) == wanted


# --- when ------------------------------------------------------------------------------------------------------------


def _server_ms(znodes: Znodes) -> int:
    """The servers' time."""
    return znodes.written_ms("tasks")


def test_a_delayed_task_waits_in_zookeeper_under_its_time_by_the_servers_clock(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet.herd.submit_raw(b"which makes the folders")
    journal = quiet.herd._core.started()._client.journal
    monkeypatch.setattr(journal, "_due_times", DueTimes(boot_clock, lambda: 0))  # this machine's clock is wrong
    before = _server_ms(znodes(namespace))
    future = quiet.add.options(delay=timedelta(minutes=1)).submit(2, 3)
    after = _server_ms(znodes(namespace))

    (name,) = znodes(namespace).children("delayed")
    found = parse_delayed_name(name)
    assert found is not None
    due, task = found
    assert task == future.name
    assert before + 59_000 <= due <= after + 61_000


def test_a_delay_counts_from_the_submission_not_from_the_first_connection(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = quiet.herd._core.started()
    due_times = runtime._client.journal._due_times
    clock = due_times._clock
    monkeypatch.setattr(due_times, "asked_at", lambda: clock() - 30.0)  # half a minute without a server
    quiet.add.options(delay=60).submit(2, 3)
    now = _server_ms(znodes(namespace))

    (name,) = znodes(namespace).children("delayed")
    found = parse_delayed_name(name)
    assert found is not None
    assert now + 20_000 <= found[0] <= now + 31_000


def test_a_time_in_the_past_is_at_once(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    long_ago = datetime(1999, 12, 31, tzinfo=timezone(timedelta(hours=-5)))
    futures = [quiet.add.options(at=long_ago).submit(1, 1), quiet.add.options(delay=0).submit(1, 1)]

    assert znodes(namespace).children("tasks") == sorted(future.name for future in futures)
    assert znodes(namespace).children("delayed") == []


def test_a_time_to_come_is_in_the_name_to_the_millisecond(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    when = datetime(2100, 1, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    future = quiet.add.options(at=when).submit(2, 3)

    assert znodes(namespace).children("delayed") == [f"{round(when.timestamp() * 1000)}-{future.name}"]


def test_what_expires_says_so_in_its_name_and_when_in_its_envelope(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes], payload: Payload
) -> None:
    when = datetime(2100, 1, 1, tzinfo=UTC)
    absolute = quiet.add.options(expires=when).submit(2, 3)
    relative = quiet.add.options(expires=60, queue="mail", priority=9).submit(2, 3)
    now = _server_ms(znodes(namespace))

    assert re.fullmatch(r"task-[0-9a-z]{26}\.default\.c", absolute.name)
    assert re.fullmatch(r"task-[0-9a-z]{26}\.mail\.p9\.c", relative.name)
    assert payload(f"tasks/{absolute.name}")["expires"] == round(when.timestamp() * 1000)
    assert now + 50_000 <= payload(f"tasks/{relative.name}")["expires"] <= now + 61_000


@pytest.mark.long
def test_a_map_may_be_delayed_as_a_whole(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    futures = [begin_call(quiet.herd, "m:f", item, delay=60) for item in range(300)]
    quiet.herd.submit_raw(b"after them")

    assert len(znodes(namespace).children("delayed")) == len(futures)


# --- no outcome ------------------------------------------------------------------------------------------------------


def test_a_task_whose_result_is_ignored_says_so_when_it_is_asked_for(app: App) -> None:
    future = app.add.options(ignore_result=True).submit(2, 3)

    assert future.done()
    with pytest.raises(OutcomeGone, match=rf"{re.escape(future.name)}: no outcome is kept, as ignore_result=True asks"):
        future.result()
    assert isinstance(future.exception(), OutcomeGone)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("acks_late", "always acknowledged"),
        ("bind", "current_task"),
        ("max_workers", "--slots"),
        ("name", "module and function"),
        ("rate_limit", "herd queues limit"),
        ("reject_on_worker_lost", "max_deliveries"),
        ("serializer", "codec"),
        ("countdown", "did you mean delay="),
        ("eta", "did you mean at="),
        ("max_retries", "did you mean max_attempts="),
        ("retry_backoff", "did you mean backoff="),
        ("queue_name", "did you mean queue="),
        ("time_limit", "did you mean timeout="),
        ("soft_time_limit", "did you mean soft_timeout="),
        ("result_expires", "did you mean outcome_ttl="),
        ("store_results", "did you mean ignore_result="),
        ("unique", "did you mean key="),
        ("priorty", "did you mean priority="),
        ("zzz", "the options are"),
    ],
)
def test_an_option_of_another_system_is_explained(name: str, says: str) -> None:
    herd = Herd("localhost:1")
    with pytest.raises(TypeError, match=re.escape(says)) as raised:
        herd.task(**{name: 1})(lambda: None)  # type: ignore[call-overload]  # what is refused

    assert str(raised.value).startswith(f"{name}= is no option")
