"""The znodes and tasks as they are on disk, and what must hold after every transaction.

The ledger reads the effects of transactions and nothing else: it does not depend on what any role believes. A reference
role moves a task in two steps; from then on the task is excused from most checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.names import parse_task_name, parse_worker_name
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome
from herdmaster.errors import BadOutcome
from herdmaster.simulation.checks.children import ChildCheck
from herdmaster.simulation.checks.effects import SERVER, Actor, Effects, Entry, inbox_of, read_effects, task_of
from herdmaster.simulation.checks.executions import ExecutionCheck
from herdmaster.simulation.checks.flows import FlowCheck
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.checks.history_counts import HistoryCountCheck
from herdmaster.simulation.checks.keys import KeyCheck
from herdmaster.simulation.checks.queue_limits import QueueLimitCheck
from herdmaster.simulation.checks.schedules import ScheduleCheck
from herdmaster.simulation.checks.sweeps import SweepCheck
from herdmaster.simulation.checks.task_index import TaskIndex
from herdmaster.simulation.checks.task_options import TaskOptionsCheck
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.plan import Ages, Kind

_PLACES: Final = ("tasks", "assign", "delayed", "status")
_STANDING_IN: Final = ({"status", "dead"}, {"delayed"}, {"tasks", "assign"})
"""The folders from which a stand-in master takes tasks."""
_WAITING: Final = (f"{layout.TASKS}/", f"{layout.DELAYED}/")


class Ledger:
    """Applies transactions and checks each of them. `fail` is called with each violation.

    `grace` is the number of seconds after which all roles have seen a change; `slowness`: see `TaskOptionsCheck`.
    """

    def __init__(
        self,
        tasks: TaskIndex,
        namespace: str,
        grace: float,
        slowness: float,
        ages: Ages,
        outcome_ttl: float,
        fail: Callable[[str], None],
        jobs: Mapping[int, Job],
        flows: Mapping[int, PlannedFlow],
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self._histories: dict[str, TaskHistory] = {}
        self.actors: dict[int, Actor] = {}
        self.places: dict[str, dict[str, None]] = {}
        self.open_sessions: dict[int, None] = {}
        self.ousted: dict[int, None] = {}
        """Sessions whose znode an operator deleted by hand: that fences no role."""
        self._namespace = namespace
        self._fail = fail
        self._tasks = tasks
        self._registered: dict[str, int] = {}  # worker: its session
        self._actor = SERVER
        self._grace_ms = int(grace * 1000)
        self._reference_led: int | None = None  # when the last transaction came under a reference master
        self.executions = ExecutionCheck(tasks.jobs, self.history, self._report)
        self._options = TaskOptionsCheck(tasks, self.history, self._report, slowness)
        self._limits = QueueLimitCheck(self.nodes, self._report, grace, self.ousted)
        self.keys = KeyCheck(tasks.jobs, self.nodes, self.history, self.where, self._report)
        self.sweeps = SweepCheck(self.nodes, self.history, ages, outcome_ttl, self._report)
        self.history_counts = HistoryCountCheck(self.history, self._report)
        self.schedules = ScheduleCheck(jobs, tasks, self.nodes, self.history, self.where, self._report)
        self.flows = FlowCheck(flows, self.nodes, self.history, self.where, self._report)
        self.children = ChildCheck(self.nodes, self.history, self.where, self.flows.failed_path, self._report)

    def record(self, entry: Entry) -> Effects:
        """Apply and check a transaction, and return its effects."""
        effects = read_effects(entry, self._namespace)
        self._actor = self.actors.get(effects.session_id, SERVER)
        master = self.nodes.get(layout.MASTER)
        is_primary = master is not None and effects.session_id != 0 and master.session_id == effects.session_id
        if master is not None and self.actors.get(master.session_id, SERVER).reference:
            self._reference_led = effects.time
        if (
            effects.closed is None
            and effects.opened is None
            and effects.session_id
            and effects.session_id not in self.open_sessions
        ):
            self._report(f"committed although its session {effects.session_id:x} had ended")
        self.flows.check(effects, self._actor)
        self._check_before(effects, is_primary=is_primary)
        before = {path: self.nodes[path] for path in effects.deleted if path in self.nodes}
        self.sweeps.check(effects, self._actor, before)
        ticks = self.schedules.begin(effects)
        self._apply(effects)
        self.executions.note_given(effects)
        self._check_places(effects)
        self._options.check(effects, self._actor)
        self._limits.check(effects, self._actor)
        self.keys.check(effects, self._actor, before)
        self.children.check(effects, self._actor)
        self.history_counts.check(effects, self._actor, before)
        self.schedules.check(effects, self._actor, ticks)
        return effects

    def _report(self, text: str) -> None:
        self._fail(f"{self._actor.name} {text}")

    # --- state -------------------------------------------------------------------------------------------------------

    def history(self, task: str) -> TaskHistory:
        found = self._histories.get(task)
        if found is None:
            job = self._tasks.jobs.get(task)
            silent = job is not None and job.silent and not job.garbage
            found = self._histories[task] = TaskHistory(task, silent=silent)
        return found

    def where(self, task: str) -> tuple[str, ...]:
        return tuple(self.places.get(task, ()))

    def _apply(self, effects: Effects) -> None:
        if effects.opened is not None:
            self.open_sessions[effects.opened] = None
        if effects.closed is not None:
            self.open_sessions.pop(effects.closed, None)
            for path in [path for path, node in self.nodes.items() if node.session_id == effects.closed]:
                del self.nodes[path]
        for path in effects.deleted:
            self._note_place(effects, path)
            self.nodes.pop(path, None)
            self._take_place(path)
        for path, data, session_id in effects.created:
            self._note_place(effects, path)
            self.nodes[path] = Node(data, session_id, effects.time, effects.time)
            task = task_of(path)
            if task is not None and path.split("/")[1] in _PLACES:
                self.places.setdefault(task, {})[path] = None
        for path, data in effects.written.items():
            if path in self.nodes:
                known = self.nodes[path]
                self.nodes[path] = Node(data, known.session_id, known.created_ms, effects.time)

    def _note_place(self, effects: Effects, path: str) -> None:
        task = task_of(path)
        if task is not None and task not in effects.places:
            effects.places[task] = self.where(task)

    def _take_place(self, path: str) -> None:
        task = task_of(path)
        if task is not None:
            places = self.places.get(task, {})
            places.pop(path, None)
            if not places:
                self.places.pop(task, None)

    # --- permissions -------------------------------------------------------------------------------------------------

    def _check_before(self, effects: Effects, *, is_primary: bool) -> None:
        """Check a transaction against the state before it."""
        actor = self._actor
        if actor is SERVER:
            return
        if actor.kind is Kind.OPERATOR:
            self._note_ousted(effects)
            self._note_replay(effects)
            return
        for path, _, session_id in effects.created:
            self._check_registration(path, session_id, effects)
        if actor.reference and actor.kind is Kind.CLIENT:
            return  # it submits and collects, one request each
        if actor.reference:
            for path in (*effects.deleted, *(path for path, _, _ in effects.created)):
                task = task_of(path)
                if task is not None:
                    self.history(task).excused = True
        elif actor.kind is Kind.MASTER:
            self._check_master(effects, is_primary=is_primary)
        elif actor.kind is Kind.WORKER:
            self._check_worker(effects)
        else:
            self._check_client(effects)

    def _note_ousted(self, effects: Effects) -> None:
        for path in effects.deleted:
            node = self.nodes.get(path)
            if node is not None and node.session_id:
                self.ousted[node.session_id] = None

    def _note_replay(self, effects: Effects) -> None:
        before = [
            path.removeprefix(f"{layout.DEAD}/") for path in effects.deleted if path.startswith(f"{layout.DEAD}/")
        ]
        after = [
            path.removeprefix(f"{layout.TASKS}/") for path, _, _ in effects.created if path.startswith(layout.TASKS)
        ]
        if before and after:
            has_key = any(
                data.decode() == after[0] for path, data, _ in effects.created if path.startswith(layout.KEYS)
            )
            self._tasks.replayed(before[0], after[0], has_key=has_key)

    def _check_registration(self, path: str, session_id: int, effects: Effects) -> None:
        folder, _, name = path.rpartition("/")
        if folder != layout.WORKERS:
            return
        if self._registered.get(name, session_id) != session_id:
            self._report(f"registered as {name} again, which names another session's worker")
        self._registered[name] = session_id
        if not self._actor.reference and layout.inbox_path(name) not in [path for path, _, _ in effects.created]:
            self._report(f"registered {name} without making its inbox in the same transaction")

    def _check_master(self, effects: Effects, *, is_primary: bool) -> None:
        moved = [path for path in effects.deleted if task_of(path) is not None]
        put = [path for path, _, _ in effects.created if task_of(path) is not None]
        if (
            (moved or put)
            and not is_primary
            and effects.session_id not in self.ousted
            and not ((self._stands_in(moved) or self._have_ended(moved, put)) and self._led_by_reference(effects))
        ):
            self._report(f"moved {', '.join([*moved, *put][:3])} although its session does not own {layout.MASTER}")
        for path in put:
            worker = inbox_of(path)
            if worker is not None and layout.worker_path(worker) not in self.nodes:
                self._report(f"assigned {path} to a worker that is gone")
        for path in moved:
            worker, task = inbox_of(path), task_of(path)
            is_cancelled = layout.cancel_path(task or "") in moved
            its_put = [each for each in put if task_of(each) == task]  # other moves may be in the same transaction
            has_ended = self._led_by_reference(effects) and self._have_ended([path], its_put)
            if worker is not None and layout.worker_path(worker) in self.nodes and not (is_cancelled or has_ended):
                self._report(f"took {path} from a worker that is alive")

    @staticmethod
    def _stands_in(moved: list[str]) -> bool:
        """Return whether one of our masters does this under a reference primary: sweep, promote, cancel, and put back
        what the reference primary has left."""
        folders = {path.split("/")[1] for path in moved}
        return any(folders <= each for each in _STANDING_IN) or "cancel" in folders

    def _have_ended(self, moved: list[str], put: list[str]) -> bool:
        """Return whether only copies are deleted that a reference role has left of tasks with a status. The search for
        a task that is to be cancelled finds such copies."""
        return not put and all(layout.status_path(task_of(path) or "") in self.nodes for path in moved)

    @property
    def primary_program(self) -> str | None:
        """The program whose session owns `/master`."""
        master = self.nodes.get(layout.MASTER)
        actor = None if master is None else self.actors.get(master.session_id)
        return None if actor is None else actor.program

    def inboxes(self) -> tuple[set[str], set[str]]:
        """Return the tasks in the inboxes of live workers, and the live workers with an inbox."""
        workers = {path.removeprefix(f"{layout.WORKERS}/") for path in self.nodes if path.startswith(layout.WORKERS)}
        found = [path.split("/")[2:] for path in self.nodes if path.startswith(f"{layout.ASSIGN}/")]
        tasks = {parts[1] for parts in found if len(parts) == 2 and parts[0] in workers}
        return tasks, {parts[0] for parts in found if parts[0] in workers and parse_worker_name(parts[0])}

    def sessions_of(self, process: str) -> list[int]:
        """Return the open sessions of a process."""
        return [each for each in self.open_sessions if self.actors[each].name == process]

    def _led_by_reference(self, effects: Effects) -> bool:
        """Return whether a reference master is the primary, or was it until so recently that others may not know."""
        return self._reference_led is not None and effects.time - self._reference_led < self._grace_ms

    def _check_worker(self, effects: Effects) -> None:
        for path in (*effects.deleted, *effects.changed):
            worker = inbox_of(path)
            if worker is not None and self._registered.get(worker) != effects.session_id:
                self._report(f"touched {path}, which is in the inbox of another session's worker")
        for path, _, _ in effects.created:
            task = task_of(path)
            is_taken = any(task_of(other) == task and inbox_of(other) for other in effects.deleted)
            is_request = self.children.is_child(task) and path == layout.cancel_path(task or "")
            if task is not None and not is_taken and not is_request and not self.flows.is_made(task):
                self._report(f"created {path} without taking its assignment in the same transaction")

    def _check_client(self, effects: Effects) -> None:
        submitted = [path for path, _, _ in effects.created if path.startswith(_WAITING) and task_of(path)]
        journals = [path for path in effects.changed if path.startswith(f"{layout.CLIENTS}/") and path.count("/") == 2]
        if submitted and len(journals) != 1:
            self._report(f"submitted {submitted[0]} without counting the batch in its journal")
        if journals:
            if not submitted and not any(path.startswith(f"{layout.FLOWS}/") for path, _, _ in effects.created):
                self._report(f"counted a batch without tasks in {journals[0]}")
            self._check_batch(journals[0], effects)
        for path in effects.deleted:
            if task_of(path) is not None and not path.startswith(f"{layout.STATUS}/"):
                self._report(f"deleted {path}")

    def _check_batch(self, journal: str, effects: Effects) -> None:
        alive = [path for path in self.nodes if path.startswith(f"{journal}/")]
        if alive != [f"{journal}/{layout.alive_name(effects.session_id)}"]:
            self._report(f"submitted by the journal {journal}, which announces {', '.join(alive) or 'none'}")

    # --- one task is in one place ------------------------------------------------------------------------------------

    def _check_places(self, effects: Effects) -> None:
        created = {path: data for path, data, _ in effects.created}
        for path in effects.changed:
            if path.startswith(f"{layout.STATUS}/"):
                self._report(f"overwrote {path}")
        for task, before in effects.places.items():
            if parse_task_name(task) is None:
                continue
            history = self.history(task)
            after = self.where(task)
            if layout.status_path(task) in created:
                history.outcomes += 1
                history.ended = True
                history.outcome = read_outcome(task, created[layout.status_path(task)])
                history.cancelled = is_cancelled(history.outcome)
                if history.outcome is not None:
                    self.executions.check_outcome(history, history.outcome, self._actor)
                if history.outcomes > 1 and not history.excused:
                    self._report(f"gave {task} a second outcome")
            if before:
                self._check_move(history, before, after)
            elif after:
                self._check_arrival(history, after)

    def _check_arrival(self, history: TaskHistory, after: tuple[str, ...]) -> None:
        actor = self._actor
        history.accepted += 1
        if actor.reference:
            return
        is_made = self.schedules.is_made(history.name) or self.flows.is_made(history.name)
        if actor.kind not in (Kind.CLIENT, Kind.OPERATOR) and not is_made:
            self._report(f"brought {history.name} to {', '.join(after)} from nowhere")
        elif len(after) != 1:
            self._report(f"submitted {history.name} to {', '.join(after)}")
        if history.accepted > 1:
            self._report(f"submitted {history.name} a second time")

    def _check_move(self, history: TaskHistory, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        if (
            history.silent
            and self._actor.kind is Kind.WORKER
            and not any(map(inbox_of, after))
            and len(after) < len(before)
        ):
            history.ended = True  # no outcome is written
        if self._actor.reference:
            if not after and not history.ended:
                self._report(f"lost {history.name}, which was in {', '.join(before)}")
        elif len(after) > len(before):
            self._report(f"left {history.name} in {', '.join(after)}, where it was in {', '.join(before)} only")
        elif not after and not history.ended and not self.flows.deleted.is_deleted(history.name):
            self._report(f"lost {history.name}, which was in {', '.join(before)}")

    # --- at the end --------------------------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """Return what is not settled: tasks that wait, are assigned or have not ended, and inboxes without a worker."""
        found = []
        for path in self.nodes:
            match path.split("/"):
                case ["", "tasks" | "delayed" | "cancel", name] if parse_task_name(task_of(path) or "") is not None:
                    found.append(f"{name} is left in {path}")
                case ["", "assign", worker, name]:
                    found.append(f"{name} is left in the inbox of {worker}")
                case ["", "assign", worker] if (
                    parse_worker_name(worker) is not None and layout.worker_path(worker) not in self.nodes
                ):
                    found.append(f"the inbox of {worker} is left, and the worker is gone")
        found += [f"{task.name} has not ended" for task in self._histories.values() if task.accepted and not task.ended]
        return found + self.schedules.unsettled() + self.flows.unsettled()


def read_outcome(task: str, data: bytes) -> Outcome | None:
    """Return the outcome, or None if it cannot be read."""
    try:
        return decode_outcome(task, data)
    except BadOutcome:
        return None


def is_cancelled(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state is OutcomeState.CANCELLED
