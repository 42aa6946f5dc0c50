"""Every znode path, one function each, relative to the namespace.

The first five folders and the plain forms of their names are the reference's, and a public protocol. The functions put
names together and check nothing: a name is checked where it is read or made (`herdmaster.core.names`).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from herdmaster.core.names import parse_schedule_name, parse_task_name, parse_worker_name

MASTER: Final = "/master"
WORKERS: Final = "/workers"
ASSIGN: Final = "/assign"
TASKS: Final = "/tasks"
STATUS: Final = "/status"
DELAYED: Final = "/delayed"
DEAD: Final = "/dead"
MASTERS: Final = "/masters"
CLIENTS: Final = "/clients"
CANCEL: Final = "/cancel"
KEYS: Final = "/keys"
QUEUES: Final = "/queues"
PROGRESS: Final = "/progress"
WAITERS: Final = "/waiters"
HISTORY: Final = "/history"
SCHEDULES: Final = "/schedules"
TICKS: Final = "/ticks"
FLOWS: Final = "/flows"
WAS_READ: Final = b"read"
"""The data of `/waiters/TASK` when the outcome of the task was read and is to go."""

FOLDERS: Final = (
    WORKERS,
    ASSIGN,
    TASKS,
    STATUS,
    DELAYED,
    DEAD,
    MASTERS,
    CLIENTS,
    CANCEL,
    KEYS,
    QUEUES,
    PROGRESS,
    WAITERS,
    HISTORY,
    SCHEDULES,
    TICKS,
    FLOWS,
)
"""The persistent folders that every role makes if they are absent. `/master` is no folder."""

_delayed_name = re.compile(r"([0-9]{13})-(task-.+)").fullmatch
_tick_name = re.compile(r"([0-9]{13})-([0-9a-f]{8})-(.+)").fullmatch
_MAX_DUE: Final = 10**13 - 1
UNPLANNED: Final = 0
"""The time of a tick that the primary has to plan first."""
NEVER: Final = _MAX_DUE
"""The time of the tick of a schedule that is paused or has ended."""
_SESSION_BITS: Final = (1 << 64) - 1


def task_path(task: str) -> str:
    return f"/tasks/{task}"


def status_path(task: str) -> str:
    return f"/status/{task}"


def worker_path(worker: str) -> str:
    return f"/workers/{worker}"


def inbox_path(worker: str) -> str:
    return f"/assign/{worker}"


def assignment_path(worker: str, task: str) -> str:
    return f"/assign/{worker}/{task}"


def delayed_path(due_ms: int, task: str) -> str:
    return f"/delayed/{delayed_name(due_ms, task)}"


def history_path(batch: str) -> str:
    return f"/history/{batch}"


def dead_path(task: str) -> str:
    return f"/dead/{task}"


def master_record_path(master: str) -> str:
    return f"/masters/{master}"


def client_path(client: str) -> str:
    return f"/clients/{client}"


def alive_path(client: str, session_id: int) -> str:
    return f"/clients/{client}/{alive_name(session_id)}"


def cancel_path(task: str) -> str:
    return f"/cancel/{task}"


def key_path(key_hash: str) -> str:
    return f"/keys/{key_hash}"


def hold_path(key_hash: str, task: str) -> str:
    return f"/keys/{key_hash}-{task}"


def queue_path(queue: str) -> str:
    return f"/queues/{queue}"


def progress_path(worker: str) -> str:
    return f"/progress/{worker}"


def waiters_path(task: str) -> str:
    return f"/waiters/{task}"


def waiter_path(task: str, session_id: int) -> str:
    """A client that waits for a task by name: 16 hex digits of its session below `waiters_path`."""
    return f"/waiters/{task}/{session_id & _SESSION_BITS:016x}"


def schedule_path(schedule: str) -> str:
    return f"/schedules/{schedule}"


def tick_path(tick: TickName) -> str:
    return f"/ticks/{tick_name(tick)}"


def flow_path(flow: str) -> str:
    return f"/flows/{flow}"


def flow_running_path(flow: str, task: str | None = None) -> str:
    """The folder of the tasks of a flow that live, or one of them."""
    return f"/flows/{flow}/running" if task is None else f"/flows/{flow}/running/{task}"


def flow_steps_path(flow: str) -> str:
    return f"/flows/{flow}/steps"


def flow_step_path(flow: str, entry: str) -> str:
    """A step that waits. `entry` is its id, with its mark or its only parent (`core.flow_graph`)."""
    return f"/flows/{flow}/steps/{entry}"


def flow_edge_path(flow: str, entry: str, parent: str) -> str:
    return f"/flows/{flow}/steps/{entry}/{parent}"


def flow_results_path(flow: str) -> str:
    return f"/flows/{flow}/results"


def flow_result_path(flow: str, step: str) -> str:
    return f"/flows/{flow}/results/{step}"


def flow_failed_path(flow: str, step: str | None = None) -> str:
    """The folder of the steps of a flow that failed, or one of them."""
    return f"/flows/{flow}/failed" if step is None else f"/flows/{flow}/failed/{step}"


def flow_cancel_path(flow: str) -> str:
    return f"/flows/{flow}/cancel"


class TickName(msgspec.Struct, frozen=True, order=True, gc=False):
    """What the name of a tick says: `due_ms` is the time of the timetable that comes next (unix milliseconds), or
    `UNPLANNED`, or `NEVER`. `id` is that of the schedule, so that a schedule that was removed and made anew shares no
    tick with the one before.
    """

    due_ms: int
    id: str
    schedule: str


def tick_name(tick: TickName) -> str:
    """`DUE-ID-SCHEDULE`: 13 digits, so that names sort by time."""
    return f"{min(max(tick.due_ms, 0), _MAX_DUE):013d}-{tick.id}-{tick.schedule}"


def parse_tick_name(name: str) -> TickName | None:
    """The fields of `DUE-ID-SCHEDULE`; None for any other name."""
    match = _tick_name(name)
    if match is None or parse_schedule_name(match[3]) is None:
        return None
    return TickName(int(match[1]), match[2], match[3])


def delayed_name(due_ms: int, task: str) -> str:
    """`DUE-TASK`: 13 digits, so that names sort by when they are due. Times outside of that are moved to its ends
    (1970 and 2286).
    """
    return f"{min(max(due_ms, 0), _MAX_DUE):013d}-{task}"


def alive_name(session_id: int) -> str:
    """`alive-SESSION`: 16 hex digits; a session id is a signed 64-bit number on the wire."""
    return f"alive-{session_id & _SESSION_BITS:016x}"


def parse_delayed_name(name: str) -> tuple[int, str] | None:
    """Due in unix milliseconds, and the task; None for a name that is not `DUE-TASK`."""
    match = _delayed_name(name)
    if match is None or parse_task_name(match[2]) is None:
        return None
    return int(match[1]), match[2]


def split_assignment(path: str) -> tuple[str, str] | None:
    """Worker and task of an assignment's path; None for the folder, an inbox, and names outside the grammar."""
    match path.split("/"):
        case ["", "assign", worker, task] if (
            parse_worker_name(worker) is not None and parse_task_name(task) is not None
        ):
            return worker, task
    return None


def name_of(path: str) -> str:
    """The last segment of a path."""
    return path[path.rfind("/") + 1 :]
