"""What a type checker makes of a user's program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
import asyncio

from herdmaster import Future, Herd, HerdExecutor

herd = Herd()


@herd.task
def add(x: int, y: int = 0) -> int:
    return x + y


@herd.task(queue="mail", priority=9)
def send(to: str, *, queue: str, timeout: float = 1.0) -> list[str]:
    return [to, queue]


@herd.task
async def fetch(url: str) -> bytes:
    return url.encode()


@herd.task(timeout=5)
async def read(url: str) -> str:
    return url


@herd.before_task
def note(task: object) -> None:
    print(task)


@herd.on_error
def report(task: object, error: BaseException) -> int:
    return 1


@herd.raw_handler
def handle(name: str, data: bytes) -> None:
    print(name, data)


reveal_type(note)  # def (task: object)
reveal_type(report)  # def (task: object, error: BaseException) -> int
reveal_type(add(1, 2))  # int
reveal_type(add.submit(1, y=2))  # herdmaster.api.future.Future[int]
reveal_type(add.submit(1).result(5))  # int
reveal_type(send("a", queue="b"))  # list[str]
reveal_type(send.submit("a", queue="b"))  # herdmaster.api.future.Future[list[str]]
reveal_type(send.options(queue="c", priority=1).submit("a", queue="b").result())  # list[str]
reveal_type(send.options(delay=1.5, retry_on=(OSError, "a.B")).submit("a", queue="b").result())  # list[str]
reveal_type(fetch.submit("a"))  # herdmaster.api.future.Future[bytes]
reveal_type(fetch.options(queue="c").submit("a").result())  # bytes
reveal_type(read.submit("a").result())  # str
reveal_type(fetch.submit("a").cancel(timeout=1))  # bool
reveal_type(herd.submit_raw(b"x").result)  # def (timeout: float | None =)
reveal_type(herd.future("task-1").result())  # object
for number in add.map([1, 2], [3, 4], window=10):
    reveal_type(number)  # int
for found in add.map([1, 2], chunksize=2, progress=True, return_exceptions=True):
    reveal_type(found)  # int | Exception
reveal_type(add.submit_many([(1, 2)]))  # list[herdmaster.api.future.Future[int]]
reveal_type(herd.submit_many(fetch, [("a",)]))  # list[herdmaster.api.future.Future[bytes]]
executor = HerdExecutor(herd, queue="mail")
reveal_type(executor.submit(add, 1, y=2))  # herdmaster.api.future.Future[int]
reveal_type(executor.submit(fetch, "a"))  # herdmaster.api.future.Future[bytes]
reveal_type(executor.submit(len, "a"))  # herdmaster.api.future.Future[int]
reveal_type(executor.map(fetch, ["a"], chunksize=2))  # typing.Iterator[bytes]
reveal_type(executor.map(len, ["a"]))  # typing.Iterator[int]


async def main() -> None:
    future = await add.submit_async(1, 2)
    reveal_type(future)  # herdmaster.api.future.Future[int]
    reveal_type(await future)  # int
    reveal_type(await fetch("a"))  # bytes
    reveal_type(await future.cancel_async())  # bool
    reveal_type(await read("a"))  # str
    reveal_type(await asyncio.wait_for(future, 1))  # int
    async for number in add.map([1]):
        reveal_type(number)  # int


def takes(future: Future[int]) -> None:
    add("1", 2)  # error: arg-type
    add.submit("1")  # error: arg-type
    add.submit()  # error: call-arg
    add.submit(1, 2, 3)  # error: call-arg
    add.submit(1, queue="mail")  # error: call-arg
    add.options(queue=1)  # error: arg-type
    send.submit("a")  # error: call-arg
    send.submit("a", queue=1)  # error: arg-type
    takes(send.submit("a", queue="b"))  # error: arg-type
    herd.task(queue=1)  # error: call-overload
    herd.task(colour=1)  # error: call-overload
    add.options(pool="fork")  # error: arg-type
    add.options(colour=1)  # error: call-arg
    fetch.submit(1)  # error: arg-type
    herd.submit_raw("x")  # error: arg-type
    herd.after_task(note)  # error: type-var
    add.submit(1).cancel("soon")  # error: arg-type
    executor.submit(add, "1")  # error: call-overload
    executor.submit(len)  # error: call-overload
    HerdExecutor(herd, colour=1)  # error: call-arg
    Herd(codec=5)  # error: arg-type
"""


FLOWS = """\
from herdmaster import Flow, Herd

herd = Herd()


@herd.task
def fetch(url: str) -> list[bytes]:
    return [url.encode()]


@herd.task
def measure(page: bytes, unit: str = "B") -> int:
    return len(page)


@herd.task
async def merge(sizes: list[int], *, title: str) -> str:
    return title


@herd.task
def notify(total: str) -> None:
    print(total)


@herd.task
def parse(pages: list[bytes], strict: bool = False) -> dict[str, int]:
    return {}


@herd.task
async def store(found: dict[str, int]) -> int:
    return 1


@herd.task
def send(x: int, after: str) -> int:
    return x


@herd.task
def start() -> int:
    return 1


with herd.flow("report", timeout=3600, key="k", on_failure="stop", keep_outcome=60.0) as flow:
    pages = fetch.step("a")
    reveal_type(pages)  # list[bytes]
    sizes = flow.each(measure, pages)
    reveal_type(sizes)  # list[int]
    total = merge.step(sizes, title="all")
    reveal_type(total)  # str
    notify.step(total, on="failure")
    notify.step(total, after=[pages], optional=True)
    reveal_type(merge.using(on="failure", name="x").step(sizes, title="b"))  # str
    flow.returns([total, sizes])
reveal_type(flow)  # herdmaster.api.flow.Flow
reveal_type(flow.submit())  # herdmaster.api.flow_future.FlowFuture[object]
reveal_type(flow.each(measure, pages, unit="k"))  # list[int]
reveal_type(flow.each(measure.using(name="m"), [b"a"], unit="k"))  # list[int]
reveal_type(flow.each(measure, pages, chunk_size=9))  # list[int]
reveal_type(flow.flat([pages]))  # typing.Iterable[bytes]
lists = flow.each(fetch, ["a"])
reveal_type(flow.each(measure, flow.flat(lists)))  # list[int]
reveal_type(flow.each(measure.using(chunk_size=9), pages, unit="k"))  # list[int]
reveal_type(flow.add(total))  # str
reveal_type(fetch.step("a") | parse.step() | store.step())  # int
reveal_type(fetch.step("a") | parse.step(strict=True))  # dict[str, int]
reveal_type([start.step(), start.step()] | merge.step(title="a"))  # str
reveal_type(fetch.step("a") | parse.using(name="x").step(strict=True) | store.step())  # int
reveal_type(parse.step() | store.step())  # herdmaster.api.step.Link[list[bytes], int]
reveal_type(herd.flow("a").submit(fetch.step("a") | parse.step()).result())  # dict[str, int]
reveal_type(herd.flow("a").submit([start.step()]).result(5))  # list[int]
reveal_type(send.step(1, after="x"))  # int
reveal_type(send.using(after=pages).step(1, after="x"))  # int
reveal_type(herd.flow_run("flow-1").result())  # object
reveal_type(flow.submit().cancel())  # bool
reveal_type(flow.submit().steps())  # tuple[herdmaster.inspection.flow_seen.StepInfo, ...]


async def main() -> None:
    run = await flow.submit_async(total)
    reveal_type(run)  # herdmaster.api.flow_future.FlowFuture[str]
    reveal_type(await run)  # str


def wrong(other: Flow) -> None:
    merge.step(pages, title="all")  # error: arg-type
    merge.step(sizes, title=3)  # error: call-overload
    merge.step(sizes)  # error: call-overload
    fetch.step(1)  # error: call-overload
    fetch.step("a", 2)  # error: call-overload
    start.step(1)  # error: call-overload
    fetch.step("a") | store.step()  # error: operator
    fetch.step("a") | parse.step() | notify.step()  # error: operator
    other.each(measure, sizes)  # error: call-overload
    other.each(measure, pages, unit=4)  # error: call-overload
    other.each(start, pages)  # error: call-overload
    notify.step(total, on="sometimes")  # error: call-overload
    notify.using(on="failure").step(sizes)  # error: call-overload
    notify.using(on="failure").step(total, 3)  # error: call-overload
    notify.using(colour=1)  # error: call-arg
    herd.flow("a", timout=1)  # error: call-arg
    herd.flow("a", on_failure="go")  # error: arg-type
"""


@pytest.mark.long
@pytest.mark.parametrize("source", [PROGRAM, FLOWS], ids=["tasks", "flows"])
@pytest.mark.timeout(180)  # mypy reads much
def test_a_strict_type_checker_knows_arguments_and_results_of_every_call(tmp_path: Path, source: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(source)
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.stderr == ""
    found: dict[int, str] = {}
    for line in ended.stdout.splitlines():
        match = re.fullmatch(r"program\.py:(\d+): (note|error): (.*)", line)
        assert match is not None, line
        number, kind, text = int(match[1]), match[2], match[3]
        if kind == "error":
            found[number] = f"error: {text[text.rindex('[') + 1 : -1]}"
        elif text.startswith("Revealed type is "):
            found[number] = text.split('"')[1].replace("builtins.", "")
    expected = {
        number: line.partition("  # ")[2] for number, line in enumerate(source.splitlines(), 1) if "  # " in line
    }
    assert found == expected
