"""`herd history` and `herd stats`, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from herdmaster.cli import program
from herdmaster.cli.history import instant, seconds
from herdmaster.core import layout
from herdmaster.core.history import (
    Batch,
    CallCounts,
    EndState,
    FailureRecord,
    Histogram,
    batch_name,
    encode_batch,
)
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from tests.cli.processes import HerdProcess, run_herd


@pytest.fixture
async def past(namespace: str) -> str:
    """Ten minutes in which a payment failed twice for good and once for the time being."""
    now = time.time_ns() // 1_000_000
    common: dict[str, Any] = {"call": "shop:pay", "queue": "money", "worker": "worker-1", "host": "host-1"}
    lost = "net.ConnectionError"
    ends = [(lost, EndState.BURIED), ("ValueError", EndState.BURIED), (lost, EndState.RETRIED)]
    failures = [
        FailureRecord(f"task-{number}", error=error, message="no\x1b[2J\n route", ended=now - 1000 * number,
                      began=now - 1000 * number - 210, attempt=3, result=result, **common)
        for number, (error, result) in enumerate(ends)
    ]  # fmt: skip
    failures[1] = msgspec.structs.replace(failures[1], schedule="nightly")
    failures[2] = msgspec.structs.replace(failures[2], flow="flow-1", step="4.17")
    counts = (
        CallCounts(
            "shop:pay",
            "money",
            {EndState.BURIED: 2, EndState.RETRIED: 1},
            Histogram({0: 3}),
            Histogram({31: 3}),
        ),
        CallCounts("shop:area", "default", {EndState.DONE: 98}, Histogram({0: 98}), Histogram({0: 98})),
    )
    batches = [
        Batch(1, now - 600_000, now - 300_000, backlog={"default": 120}),
        Batch(1, now - 300_000, now - 10, "worker-1", counts, tuple(failures), 4, {"default": 80, "money": 1}),
    ]
    async with Client(namespace) as client:
        await make_folders(client)
        for each in batches:
            await client.create(layout.history_path(batch_name(each.ends, "0")), encode_batch(each))
    return namespace


async def herd(*arguments: str) -> tuple[int, list[str], str]:
    done = await asyncio.to_thread(run_herd, *arguments)
    return done.returncode, done.stdout.splitlines(), done.stderr


async def test_the_history_says_what_failed_when_where_and_why(past: str) -> None:
    code, lines, stderr = await herd("history", "--zookeeper", past)

    assert (code, len(lines)) == (0, 9)
    assert lines[0].endswith("  buried  shop:pay  task-0")
    assert lines[1].strip() == "net.ConnectionError: no\\x1b[2J\\n route"  # steers no terminal
    assert lines[2].strip() == "attempt 3, ran 0.21 s on worker-1 (host-1)"
    assert lines[5].strip() == "attempt 3 of schedule nightly, ran 0.21 s on worker-1 (host-1)"
    assert lines[8].strip() == "attempt 3, step 4.17 of flow-1, ran 0.21 s on worker-1 (host-1)"
    assert "4 failures in this time have no record" in stderr


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        (["--failed"], ["task-0", "task-1"]),
        (["--error", "ConnectionError"], ["task-0", "task-2"]),
        (["--error", "net.ConnectionError", "--failed"], ["task-0"]),
        (["--call", "pay", "--queue", "money", "--limit", "1"], ["task-0"]),
        (["--call", "area"], []),
        (["--schedule", "nightly"], ["task-1"]),
        (["--flow", "flow-1"], ["task-2"]),
    ],
)
async def test_the_history_can_be_narrowed(past: str, options: list[str], tasks: list[str]) -> None:
    code, lines, _ = await herd("history", "--zookeeper", past, "--json", *options)

    assert (code, [json.loads(line)["task"] for line in lines]) == (0, tasks)


async def test_the_history_is_counted_by_error(past: str) -> None:
    _, lines, _ = await herd("history", "--zookeeper", past, "--by", "error")
    assert [line.split()[:3] for line in lines[::2]] == [
        ["2", "shop:pay", "net.ConnectionError:"],
        ["1", "shop:pay", "ValueError:"],
    ]

    _, lines, _ = await herd("history", "--zookeeper", past, "--by", "call", "--json")
    (group,) = map(json.loads, lines)
    assert (group["call"], group["count"], group["newest"]["task"]) == ("shop:pay", 3, "task-0")


async def test_statistics_are_a_table_with_the_trend_of_the_backlog(past: str) -> None:
    code, lines, stderr = await herd("stats", "--zookeeper", past)
    table = [line.split() for line in lines]

    assert (code, stderr) == (0, "")
    assert table[0][:5] == ["call", "tasks/min", "done", "failed", "rate"]
    names, rates, *counts = zip(*(row[:5] for row in table[1:4]), strict=True)
    assert names == ("shop:area", "shop:pay", "all")
    assert [float(rate) for rate in rates] == pytest.approx([9.8, 0.2, 10.0], rel=0.2)  # in the time until now
    assert counts == [("98", "0", "98"), ("0", "2", "2"), ("0.0%", "100.0%", "2.0%")]
    assert table[2][5] == "1"
    assert lines[-2:] == ["backlog of default: 80 (-40 since 10 m ago)", "backlog of money: 1 (+1 since 10 m ago)"]


async def test_statistics_are_printed_for_programs(past: str) -> None:
    _, lines, _ = await herd("stats", "--zookeeper", past, "--json", "--by", "queue", "--queue", "money")
    money, total, backlog = map(json.loads, lines)

    assert (money["group"], money["results"]) == ("money", {"buried": 2, "retried": 1})
    assert money["running"]["p99"] == pytest.approx(0.2, rel=0.1)
    assert total["group"] == "all"
    assert backlog == {"backlog": {"default": [120, 80], "money": [0, 1]}}


async def test_an_empty_history_says_so(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)

    assert await herd("history", namespace) == (0, [], "nothing failed in this time\n")
    assert await herd("stats", namespace) == (0, [], "no task has ended in this time\n")


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("history", ("--schedule", ""), "'--schedule': it is empty"),
        ("history", ("--flow", ""), "'--flow': it is empty"),
        ("history", ("--error", ""), "'--error': it is empty"),
        ("history", ("--since", "0"), "'--since': '0' is no time at all: give one above 0"),
        ("stats", ("--queue", ""), "'--queue': it is empty: name one, or leave the option out"),
    ],
)
def test_an_empty_name_or_time_is_refused(command: str, options: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(program.herd, [command, "127.0.0.1:1", *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.long
def test_a_watch_ends_cleanly_at_ctrl_c(namespace: str) -> None:
    with HerdProcess("master", namespace) as master:
        master.wait_for_log("elected")
        with HerdProcess("stats", "--zookeeper", namespace, "--watch") as watch:
            watch.wait_for_log("no task has ended in this time")
            watch.send(signal.SIGINT)
            assert watch.wait() == 0
            assert "Traceback" not in watch.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0005, "0.5 ms"), (0.021, "21 ms"), (0.21, "0.21 s"), (59, "59 s"), (600, "10 m"), (7300, "2 h")],
)
def test_durations_have_the_unit_that_suits_them(value: float, text: str) -> None:
    assert seconds(value) == text


def test_an_instant_has_a_date_unless_it_is_today() -> None:
    assert len(instant(time.time_ns() // 1_000_000)) == len("14:03:22")
    assert instant(0).startswith(("1970-01-01", "1969-12-31"))
