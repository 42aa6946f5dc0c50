"""The paths of all znodes, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core import layout

TASK = "task-01arz3ndektsv4rrffq69g5fav.mail.p7"
WORKER = "worker-1a"
TICK = layout.TickName(1_700_000_000_000, "0a1b2c3d", "shop:nightly")


def test_every_path_is_where_the_design_says() -> None:
    assert layout.MASTER == "/master"
    assert layout.task_path(TASK) == f"/tasks/{TASK}"
    assert layout.status_path(TASK) == f"/status/{TASK}"
    assert layout.worker_path(WORKER) == "/workers/worker-1a"
    assert layout.inbox_path(WORKER) == "/assign/worker-1a"
    assert layout.assignment_path(WORKER, TASK) == f"/assign/worker-1a/{TASK}"
    assert layout.delayed_path(1_700_000_000_000, TASK) == f"/delayed/1700000000000-{TASK}"
    assert layout.dead_path(TASK) == f"/dead/{TASK}"
    assert layout.master_record_path("master-1") == "/masters/master-1"
    assert layout.client_path("client-1") == "/clients/client-1"
    assert layout.alive_path("client-1", 0x1F) == "/clients/client-1/alive-000000000000001f"
    assert layout.cancel_path(TASK) == f"/cancel/{TASK}"
    assert layout.key_path("00ff") == "/keys/00ff"
    assert layout.queue_path("mail") == "/queues/mail"
    assert layout.progress_path(WORKER) == "/progress/worker-1a"
    assert layout.waiters_path(TASK) == f"/waiters/{TASK}"
    assert layout.schedule_path("shop:nightly") == "/schedules/shop:nightly"
    assert layout.tick_path(TICK) == "/ticks/1700000000000-0a1b2c3d-shop:nightly"
    assert layout.waiter_path(TASK, -1) == f"/waiters/{TASK}/ffffffffffffffff"


def test_a_flow_is_a_tree_of_its_own() -> None:
    flow = "flow-01arz3ndektsv4rrffq69g5fav"
    assert layout.flow_path(flow) == f"/flows/{flow}"
    assert layout.flow_running_path(flow) == f"/flows/{flow}/running"
    assert layout.flow_running_path(flow, TASK) == f"/flows/{flow}/running/{TASK}"
    assert layout.flow_steps_path(flow) == f"/flows/{flow}/steps"
    assert layout.flow_step_path(flow, "7!") == f"/flows/{flow}/steps/7!"
    assert layout.flow_edge_path(flow, "7!", "4.17") == f"/flows/{flow}/steps/7!/4.17"
    assert layout.flow_result_path(flow, "4.17") == f"{layout.flow_results_path(flow)}/4.17"
    assert layout.flow_failed_path(flow, "12+0") == f"{layout.flow_failed_path(flow)}/12+0"
    assert layout.flow_cancel_path(flow) == f"/flows/{flow}/cancel"


def test_every_path_lies_in_a_folder_that_is_made_at_start() -> None:
    paths = [
        layout.task_path(TASK), layout.status_path(TASK), layout.worker_path(WORKER), layout.inbox_path(WORKER),
        layout.delayed_path(0, TASK), layout.dead_path(TASK), layout.master_record_path("master-1"),
        layout.client_path("client-1"), layout.cancel_path(TASK), layout.key_path("00"), layout.queue_path("mail"),
        layout.progress_path(WORKER), layout.waiters_path(TASK), layout.history_path("0"),
        layout.schedule_path("nightly"), layout.tick_path(TICK),
        layout.flow_path("flow-1"),
    ]  # fmt: skip
    assert sorted(path.rpartition("/")[0] for path in paths) == sorted(layout.FOLDERS)


@given(st.integers(0, 10**13 - 1))
def test_a_delayed_name_gives_back_when_it_is_due_and_the_task(due: int) -> None:
    assert layout.parse_delayed_name(layout.delayed_name(due, TASK)) == (due, TASK)


@given(st.integers(0, 10**13 - 1), st.integers(0, 10**13 - 1))
def test_delayed_names_sort_by_when_they_are_due(first: int, second: int) -> None:
    assert (first < second) == (layout.delayed_name(first, TASK) < layout.delayed_name(second, TASK))


@pytest.mark.parametrize(("due", "moved"), [(-5, 0), (10**13, 10**13 - 1)])
def test_a_time_that_13_digits_cannot_say_moves_to_the_nearest(due: int, moved: int) -> None:
    assert layout.parse_delayed_name(layout.delayed_name(due, TASK)) == (moved, TASK)


@pytest.mark.parametrize(
    "name", ["", "1700000000000", f"170000000000-{TASK}", f"1700000000000{TASK}", "1700000000000-task-a b"]
)
def test_other_names_are_no_delayed_names(name: str) -> None:
    assert layout.parse_delayed_name(name) is None


@pytest.mark.parametrize(("session_id", "name"), [(31, "alive-000000000000001f"), (-2, "alive-fffffffffffffffe")])
def test_an_alive_node_is_named_after_its_session_also_a_negative_one(session_id: int, name: str) -> None:
    assert layout.alive_path("client-1", session_id) == f"/clients/client-1/{name}"


@given(st.integers(0, 10**13 - 1), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}", fullmatch=True))
def test_the_name_of_a_tick_gives_back_its_time_and_its_schedule(at: int, schedule: str) -> None:
    tick = layout.TickName(at, "0a1b2c3d", schedule)
    assert layout.parse_tick_name(layout.tick_name(tick)) == tick


@pytest.mark.parametrize("name", ["", "nightly", "1700000000000-nightly", "1700000000000-0a1b2c3d-", "1-0a1b2c3d-a"])
def test_other_names_are_no_ticks(name: str) -> None:
    assert layout.parse_tick_name(name) is None


def test_assignments_and_inboxes_are_told_apart() -> None:
    assert layout.split_assignment(f"/assign/{WORKER}/{TASK}") == (WORKER, TASK)
    assert layout.split_assignment(f"/assign/{WORKER}") is None


@pytest.mark.parametrize(
    "path",
    [
        "/assign",
        "/assign/worker-1a/what",
        "/assign/what/task-1",
        f"/tasks/{WORKER}/{TASK}",
        f"/assign/{WORKER}/{TASK}/x",
    ],
)
def test_other_paths_are_no_assignments(path: str) -> None:
    assert layout.split_assignment(path) is None


def test_the_name_of_a_path_is_its_last_segment() -> None:
    assert layout.name_of(layout.assignment_path(WORKER, TASK)) == TASK
