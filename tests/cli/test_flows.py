"""`herd flows`, as an operator sees it. No master runs: what it does is tested with the primary."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from herdmaster.cli import flows as flow_commands
from herdmaster.cli.program import herd
from herdmaster.core import layout
from herdmaster.core.flows import FlowState
from herdmaster.inspection import flows as inspection
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from tests.flow_scene import CREATED, FLOW, FlowScene

pytestmark = pytest.mark.long

OTHER = "flow-01kb5w3a0000000000000000zz"
NAMES = {"0": "fetch", "1": "parse", "2": "merge", "3": "notify"}
COUNTS = ["DONE", "RUNNING", "PENDING", "WAITING", "FAILED", "BLOCKED"]
PARENTS = {"1": ["0"], "2": ["1"], "3": ["2"]}


def run(*arguments: str) -> Result:
    """Run a command in this process, which is faster than a process of its own."""
    return CliRunner().invoke(herd, list(arguments))


@pytest.fixture
async def at(namespace: str) -> tuple[str, str]:
    """A flow that runs with failed items, and one that has ended."""
    async with Client(namespace) as zk:
        await make_folders(zk)
        scene = FlowScene(zk, NAMES, PARENTS).begin(timeout=3600.0).done("0", "1", "1.0").live("1.1", attempt=2)
        scene.failed("1.2", message="no\x1b[2J\nroute")
        await scene.waiting("2", ["1.1", "1.2"]).waiting("3!", ["2"]).write()
        other = FlowScene(zk, {"0": "fetch"}, flow=OTHER)
        await other.begin(FlowState.FAILED, name="etl", created=CREATED + 1, ended=CREATED + 5000).failed("0").write()
    return ("--zookeeper", namespace)


def test_flows_are_listed_with_their_numbers_of_steps(at: tuple[str, str]) -> None:
    rows = [line.split() for line in run("flows", *at).stdout.splitlines()]
    assert rows[0] == ["STATE", "AGE", "ENDED", *COUNTS, "FLOW", "NAME"]
    assert [row[0] for row in rows[1:]] == ["running", "failed"]
    assert rows[1][2:] == ["-", "3", "0", "1", "1", "1", "1", FLOW, "report"]
    (failed,) = run("flows", "list", at[1], "--state", "failed", "--name", "etl", "--json").stdout.splitlines()
    assert json.loads(failed)["id"] == OTHER
    assert run("flows", "list", at[1], "--name", "gone").stderr == "no flows\n"
    some = run("flows", "list", at[1], "--limit", "1")
    assert [line.split()[9] for line in some.stdout.splitlines()] == ["FLOW", FLOW]
    assert some.stderr == "there are more than 1 flows: --limit 0 lists all, --state and --name choose\n"
    assert len(run("flows", "list", at[1], "--limit", "0").stdout.splitlines()) == 3


def test_a_flow_is_shown_with_its_steps(at: tuple[str, str]) -> None:
    result = run("flows", "show", FLOW.removeprefix("flow-"), *at)
    assert (result.exit_code, result.stderr) == (0, "")
    for text in (
        "state      running\n",
        "timeout    1h\n",
        "steps      3 done, 1 pending, 1 waiting, 1 failed, 1 blocked\n",
        "0      done       fetch",
        "1      pending    parse                     1 pending, 1 done, 1 failed",
        "1.2: ValueError: no\\x1b[2J\\nroute",
        "2      blocked    merge                     waits for 1",
        "3      waiting    notify                    (on failure)  waits for 2",
    ):
        assert text in result.stdout
    shown = json.loads(run("flows", "show", FLOW, "--json", *at).stdout)
    assert [step["state"] for step in shown["steps"]] == ["done", "pending", "blocked", "waiting"]
    assert shown["info"]["failed"] == 1


def test_a_flow_is_drawn_in_plain_text_and_for_other_programs(at: tuple[str, str]) -> None:
    lines = run("flows", "tree", FLOW, *at).stdout.splitlines()
    assert lines[0].startswith(f"report  running  {FLOW}, ")
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["0", "fetch", "done"],
        ["1", "parse", "pending"],
        ["1.2:", "ValueError:", "no\\x1b[2J\\nroute"],
    ]
    assert lines[-1] == "3 notify  waiting    (on failure)  waits for 2 merge"
    assert run("flows", "tree", FLOW, "--dot", *at).stdout.startswith('digraph "report" {')
    assert ElementTree.fromstring(run("flows", "tree", FLOW, "--svg", *at).stdout).tag.endswith("svg")
    both = run("flows", "tree", FLOW, "--dot", "--svg", *at)
    assert (both.exit_code, both.stdout) == (2, "")
    assert "give --dot or --svg, not both" in both.stderr


def test_a_flow_is_watched_until_it_has_ended(at: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_commands, "_WATCH_SECONDS", 0.0)
    find, looks = inspection.find_flow, 0

    async def find_twice(client: Client, flow: str) -> inspection.FlowDetails | None:
        nonlocal looks
        looks += 1
        found = await find(client, flow)
        header, stat = await client.get(layout.flow_path(flow))
        over = (header or b"").replace(b'"running"', b'"failed"')
        await client.set(layout.flow_path(flow), over, stat.version)
        return found

    monkeypatch.setattr(inspection, "find_flow", find_twice)
    shown = run("flows", "show", FLOW, "--watch", "--json", *at).stdout.splitlines()
    assert [json.loads(line)["info"]["state"] for line in shown] == ["running", "failed"]
    assert looks == 2


def test_a_flow_that_does_not_exist_is_told(at: tuple[str, str]) -> None:
    for verb in ("show", "tree", "cancel", "retry", "wait"):
        result = run("flows", verb, "flow-01kb5w3a0000000000000000aa", *at)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "there is no flow" in result.stderr
    several = run("flows", "show", "01kb5w3a", *at)
    assert (several.exit_code, "2 flows begin with '01kb5w3a'" in several.stderr) == (1, True)


def test_failed_steps_are_retried(at: tuple[str, str]) -> None:
    retried = run("flows", "retry", FLOW, "--from", "parse", *at)
    assert (retried.exit_code, retried.stdout) == (0, f"{FLOW}: 1 step runs again\n"), retried.stderr
    empty = run("flows", "retry", FLOW, "--from", "", *at)
    assert (empty.exit_code, "Invalid value for '--from': it is empty" in empty.stderr) == (2, True), empty.stderr
    again = run("flows", "retry", FLOW, *at)
    assert (again.exit_code, "is running, and no step has failed" in again.stderr) == (1, True)
    waited = run("flows", "retry", OTHER, "--wait", "--timeout", "0.1s", "--json", *at)
    assert (waited.exit_code, json.loads(waited.stdout)) == (1, {"flow": OTHER, "steps": 1, "state": None})


def test_a_request_to_cancel_stands_without_a_primary(at: tuple[str, str]) -> None:
    cancelled = run("flows", "cancel", FLOW, OTHER, "--timeout", "0.5s", *at)
    assert cancelled.exit_code == 1
    assert cancelled.stdout == f"{FLOW}: no primary has answered yet; the request stands\n{OTHER}: failed\n"
    assert "a request to cancel it is not carried out yet" in run("flows", "show", FLOW, *at).stdout


def test_flows_are_waited_for(at: tuple[str, str]) -> None:
    waited = run("flows", "wait", OTHER, FLOW, "--timeout", "0.5s", *at)
    assert waited.exit_code == 1
    assert waited.stdout == f"{OTHER}: failed\n{FLOW}: has not ended within 0.5 s and goes on\n"


def test_flows_that_have_ended_are_removed(at: tuple[str, str]) -> None:
    refused = run("flows", "remove", OTHER, *at)
    assert (refused.exit_code, "confirm with --yes" in refused.stderr) == (1, True)
    unasked = run("flows", "remove", FLOW, "zz", *at)
    assert (unasked.exit_code, "confirm with --yes" in unasked.stderr) == (1, False)
    assert unasked.stdout.splitlines() == [
        f"{FLOW}: {FLOW} is running: cancel it first, or give --force",
        "zz: there is no flow 'zz', or it ended and was swept: `herd flows list` shows all",
    ]
    removed = run("flows", "remove", OTHER, FLOW, "zz", "--yes", *at)
    assert removed.exit_code == 1
    assert removed.stdout.splitlines() == [
        f"{OTHER}: removed",
        f"{FLOW}: {FLOW} is running: cancel it first, or give --force",
        "zz: there is no flow 'zz', or it ended and was swept: `herd flows list` shows all",
    ]
    assert run("flows", "list", at[1], "--state", "failed").stderr == "no flows\n"


def test_a_flow_that_is_named_twice_is_taken_once(at: tuple[str, str]) -> None:
    waited = run("flows", "wait", OTHER, OTHER.removeprefix("flow-"), *at)
    assert waited.stdout == f"{OTHER}: failed\n"
    removed = run("flows", "remove", OTHER, OTHER.removeprefix("flow-"), OTHER, "--yes", *at)
    assert (removed.exit_code, removed.stdout) == (0, f"{OTHER}: removed\n"), removed.stderr


@pytest.mark.parametrize("verb", ["show", "wait", "cancel", "result"])
def test_the_commands_of_tasks_say_that_a_flow_is_none(verb: str) -> None:
    refused = run("tasks", verb, FLOW)
    assert (refused.exit_code, f"'{FLOW}' is a flow: `herd flows` has" in refused.stderr) == (2, True)


def test_a_step_names_its_flow(at: tuple[str, str]) -> None:
    (task,) = run("tasks", "list", at[1], "--flow", FLOW, "--json").stdout.splitlines()
    name = json.loads(task)["name"]
    assert f"flow        {FLOW}, step 1.1 (parse)\n" in run("tasks", "show", name, *at).stdout
    assert run("tasks", "list", at[1], "--flow", OTHER).stderr == "no tasks\n"
