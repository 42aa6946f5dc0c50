"""How a flow ended, read from what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowHeader, FlowState, Reference, Returns, encode_header
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome, encode_result
from herdmaster.errors import BadOutcome, HerdError, OutcomeGone
from herdmaster.inspection.missing import find_missing
from herdmaster.roles.client.flow_ends import EndOfFlow, FlowEnd, FlowEndQuestions
from herdmaster.roles.client.questions import Questions
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client, Node
from herdmaster.zookeeper.errors import NoAuth, ServerError
from tests.lagging import lagging
from tests.roles.stage import Stage

pytestmark = pytest.mark.long

F = "flow-01h00000000000000000000000"
DONE = Outcome(OutcomeState.DONE)


async def put(stage: Stage, state: FlowState, *, refs: Sequence[Reference] = (), results: dict[str, object]) -> None:
    """Put a flow into ZooKeeper that returns these references."""
    await make_folders(stage.zk)
    returns = Returns(msgspec.Raw(b"[]"), tuple(refs)) if refs else None
    error = ErrorInfo("FlowFailed", "1 step failed") if state is FlowState.FAILED else None
    header = FlowHeader(1, "report", 1, state, 1, returns=returns, error=error)
    await stage.zk.create(layout.flow_path(F), encode_header(header))
    await stage.zk.create(layout.flow_results_path(F))
    for step, result in results.items():
        outcome = Outcome(OutcomeState.DONE, encode_result(result))
        await stage.zk.create(layout.flow_result_path(F, step), encode_outcome(f"{F}/{step}", outcome))


async def ask(stage: Stage, outcome: Outcome | None) -> FlowEnd:
    return await EndOfFlow(F, outcome, None).ask(stage.zk)


def values(end: FlowEnd) -> dict[tuple[str, bool], list[object]]:
    return {
        key: [None if each is None or each.result is None else msgspec.json.decode(each.result) for each in outcomes]
        for key, outcomes in end.results.items()
    }


async def test_a_server_that_lags_behind_is_not_believed() -> None:
    header = FlowHeader(1, "report", 1, FlowState.DONE, 1)
    end = await EndOfFlow(F, DONE, None).ask(lagging({layout.flow_path(F): encode_header(header)}))
    assert end == FlowEnd(DONE)


async def test_what_the_flow_returns_is_read_and_what_did_not_run_is_none(stage: Stage) -> None:
    refs = [Reference((0,), "0"), Reference((1,), "1", each=True), Reference((2,), "9"), Reference((3,), "0")]
    await put(stage, FlowState.DONE, refs=refs, results={"0": "a", "1": 2, "1.0": 5, "1.1": 6})

    end = await ask(stage, DONE)
    assert values(end) == {("0", False): ["a"], ("1", True): [5, 6], ("9", False): [None]}
    assert end.returns is not None


async def test_many_large_results_are_read_in_parts(stage: Stage) -> None:
    items = {f"1.{number}": "x" * 100_000 for number in range(70)}
    await put(stage, FlowState.DONE, refs=[Reference((), "1", each=True)], results={"1": 70, **items})
    assert values(await ask(stage, DONE)) == {("1", True): list(items.values())}


async def test_a_flow_whose_outcome_was_collected_tells_by_its_header(stage: Stage) -> None:
    await put(stage, FlowState.DONE, refs=[Reference((), "0")], results={"0": 7})
    assert await find_missing(stage.zk, [F]) == [F]
    end = await ask(stage, None)
    assert (end.outcome.state, values(end)) == (OutcomeState.DONE, {("0", False): [7]})


@pytest.mark.parametrize("state", [FlowState.FAILED, FlowState.CANCELLED, FlowState.EXPIRED])
async def test_a_flow_that_is_not_done_is_told_by_its_header(stage: Stage, state: FlowState) -> None:
    await put(stage, state, refs=[Reference((), "0")], results={})
    end = await ask(stage, None)
    assert (end.outcome.state, end.results) == (state.value, {})
    assert (end.outcome.error is not None) is (state is FlowState.FAILED)


async def test_a_flow_that_has_not_ended_is_not_missing(stage: Stage) -> None:
    for state in (FlowState.BUILDING, FlowState.RUNNING):
        await put(stage, state, results={})
        assert await find_missing(stage.zk, [F, "task-1"]) == ["task-1"]
        with pytest.raises(OutcomeGone, match=f"the flow is {state}"):
            await ask(stage, None)
        await stage.zk.delete(layout.flow_results_path(F))
        await stage.zk.delete(layout.flow_path(F))
    assert await find_missing(stage.zk, [F]) == [F]
    await stage.zk.create(layout.status_path(F), b"")
    assert await find_missing(stage.zk, [F]) == []


async def test_a_flow_that_is_gone_has_no_result(stage: Stage) -> None:
    with pytest.raises(OutcomeGone, match="no such flow"):
        await ask(stage, None)
    with pytest.raises(OutcomeGone, match="its results were deleted since"):
        await ask(stage, DONE)
    failed = Outcome(OutcomeState.FAILED, error=ErrorInfo("FlowFailed", "x"))
    assert (await ask(stage, failed)).outcome is failed


@pytest.mark.parametrize("count", [10**15, -1, "many", None])
async def test_a_number_of_items_that_cannot_be_is_refused(stage: Stage, count: object) -> None:
    await put(stage, FlowState.DONE, refs=[Reference((), "1", each=True)], results={"1": count})
    with pytest.raises(BadOutcome, match="is no number of items"):
        await ask(stage, DONE)


async def test_a_header_that_cannot_be_read_is_told(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.flow_path(F), b"{}")
    with pytest.raises(BadOutcome, match="the header of the flow cannot be read"):
        await ask(stage, None)
    assert await find_missing(stage.zk, [F]) == [F]


async def test_flows_that_end_together_share_requests_and_each_has_its_own_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(stage, FlowState.DONE, refs=[Reference((), "0")], results={"0": 7})
    reads: list[list[str]] = []
    multi_read = Client.multi_read

    async def count(client: Client, paths: Iterable[str]) -> list[Node | ServerError]:
        reads.append(list(paths))
        return await multi_read(client, reads[-1])

    monkeypatch.setattr(Client, "multi_read", count)
    questions = Questions()
    ends = FlowEndQuestions(questions)
    told: list[FlowEnd] = []
    failed: list[HerdError] = []
    answered = asyncio.Event()
    for flow in (F, "flow-01h00000000000000000000001", F):
        ends.ask(EndOfFlow(flow, DONE, None, ["0"]), told.append, failed.append)
    ends.ask(EndOfFlow(F, DONE, None), told.append, failed.append)  # the step is known from the others
    ends.ask(EndOfFlow("flow-01h00000000000000000000002", None, None), told.append, lambda _: answered.set())
    asking = asyncio.create_task(questions.run(stage.zk))
    await asyncio.wait_for(answered.wait(), 10)
    asking.cancel()

    assert [values(end) for end in told] == [{("0", False): [7]}] * 3
    assert ["its results were deleted since" in str(error) for error in failed] == [True]
    assert len(reads) == 1


async def test_a_flow_whose_request_is_refused_fails_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(stage, FlowState.DONE, refs=[Reference((), "0")], results={"0": 7})
    refused = "flow-01h00000000000000000000001"
    multi_read = Client.multi_read

    async def refuse(client: Client, paths: Iterable[str]) -> list[Node | ServerError]:
        paths = list(paths)
        if any(refused in path for path in paths):
            raise NoAuth(refused)
        return await multi_read(client, paths)

    monkeypatch.setattr(Client, "multi_read", refuse)
    questions = Questions()
    ends = FlowEndQuestions(questions)
    told: list[FlowEnd] = []
    failed: list[HerdError] = []
    for flow in (F, refused, F):
        ends.ask(EndOfFlow(flow, DONE, None, ["0"]), told.append, failed.append)
    asking = asyncio.create_task(questions.run(stage.zk))
    async with asyncio.timeout(10):
        while len(told) + len(failed) < 3:
            await asyncio.sleep(0.01)
    asking.cancel()
    assert [values(end) for end in told] == [{("0", False): [7]}] * 2
    assert [type(error) for error in failed] == [NoAuth]


async def test_questions_how_flows_ended_fail_with_the_client() -> None:
    questions = Questions()
    failed: list[HerdError] = []
    ends = FlowEndQuestions(questions)
    for _ in range(3):
        ends.ask(EndOfFlow(F, DONE, None), lambda _: None, failed.append)
    questions.end()
    assert len(failed) == 3
