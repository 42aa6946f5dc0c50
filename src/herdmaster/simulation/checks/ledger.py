"""The history of the world as it is on disk, and what must hold after every transaction of it.

The ledger keeps a picture of its own, made of the effects of transactions; what any role believes is none of its
business. A reference role moves a task in two steps and is excused for what that does to the task, from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from herdmaster.core import layout
from herdmaster.core.names import parse_task_name, parse_worker_name
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome
from herdmaster.errors import BadOutcome
from herdmaster.simulation.checks.effects import SERVER, Actor, Deed, inbox_of, read_deed, task_of
from herdmaster.simulation.checks.executions import Runs
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.checks.task_options import Terms
from herdmaster.simulation.plan.plan import Kind
from herdmaster.simulation.world.server import Entry

_PLACES: Final = ("tasks", "assign", "delayed", "status")
_STANDING_IN: Final = ({"status", "dead"}, {"delayed"}, {"tasks", "assign"})
"""The folders that a master that stands in takes tasks from."""
_WAITING: Final = (f"{layout.TASKS}/", f"{layout.DELAYED}/")


class Ledger:
    """`fail` is called with what was violated; `replayed` with the old and the new name of a task,
    and whether the new one has the key. `grace` and
    `slowness`: see `Terms`."""

    def __init__(
        self,
        namespace: str,
        grace: float,
        slowness: float,
        fail: Callable[[str], None],
        replayed: Callable[[str, str, bool], None],
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, TaskHistory] = {}
        self.actors: dict[int, Actor] = {}
        self.places: dict[str, dict[str, None]] = {}
        self.open_sessions: dict[int, None] = {}
        self.count = 0
        self.ousted: dict[int, None] = {}
        """Sessions whose znode an operator deleted by hand, which fences no role."""
        self._namespace = namespace
        self._fail = fail
        self._replayed = replayed
        self._registered: dict[str, int] = {}  # worker: its session
        self._actor = SERVER
        self._grace_ms = int(grace * 1000)
        self._reference_led: int | None = None  # when the last transaction came under a reference master
        self.terms = Terms(self.nodes, self.history, self._blame, grace, slowness, self.ousted)
        self.runs = Runs(self.terms.jobs, self.history, self._blame)

    def record(self, entry: Entry) -> Deed:
        """One more transaction; says what it was."""
        self.count += 1
        deed = read_deed(entry.session_id, entry.transaction, self._namespace)
        self._actor = self.actors.get(deed.session_id, SERVER)
        master = self.nodes.get(layout.MASTER)
        is_primary = master is not None and deed.session_id != 0 and master.session_id == deed.session_id
        if master is not None and self.actors.get(master.session_id, SERVER).reference:
            self._reference_led = deed.time
        if (
            deed.closed is None
            and deed.opened is None
            and deed.session_id
            and deed.session_id not in self.open_sessions
        ):
            self._blame(f"committed although its session {deed.session_id:x} had ended")
        self._judge_before(deed, is_primary=is_primary)
        keys = {path: self.nodes[path].data for path in deed.deleted if path.startswith(f"{layout.KEYS}/")}
        self._apply(deed)
        self.runs.note_given(deed)
        self._judge_places(deed)
        self.terms.judge(deed, self._actor, keys)
        return deed

    def _blame(self, text: str) -> None:
        self._fail(f"{self._actor.name} {text}")

    # --- the picture -------------------------------------------------------------------------------------------------

    def history(self, task: str) -> TaskHistory:
        found = self.tasks.get(task)
        if found is None:
            job = self.terms.jobs.get(task)
            silent = job is not None and job.silent and not job.garbage
            found = self.tasks[task] = TaskHistory(task, silent=silent)
        return found

    def where(self, task: str) -> tuple[str, ...]:
        return tuple(self.places.get(task, ()))

    def _apply(self, deed: Deed) -> None:
        if deed.opened is not None:
            self.open_sessions[deed.opened] = None
        if deed.closed is not None:
            self.open_sessions.pop(deed.closed, None)
            for path in [path for path, node in self.nodes.items() if node.session_id == deed.closed]:
                del self.nodes[path]
        for path in deed.deleted:
            self._note_place(deed, path)
            self.nodes.pop(path, None)
            self._take_place(path)
        for path, data, session_id in deed.created:
            self._note_place(deed, path)
            self.nodes[path] = Node(data, session_id)
            task = task_of(path)
            if task is not None and path.split("/")[1] in _PLACES:
                self.places.setdefault(task, {})[path] = None
        for path, data in deed.written.items():
            if path in self.nodes:
                self.nodes[path] = Node(data, self.nodes[path].session_id)

    def _note_place(self, deed: Deed, path: str) -> None:
        task = task_of(path)
        if task is not None and task not in deed.places:
            deed.places[task] = self.where(task)

    def _take_place(self, path: str) -> None:
        task = task_of(path)
        if task is not None:
            places = self.places.get(task, {})
            places.pop(path, None)
            if not places:
                self.places.pop(task, None)

    # --- who may do what ---------------------------------------------------------------------------------------------

    def _judge_before(self, deed: Deed, *, is_primary: bool) -> None:
        """Judges by what was there when the transaction came."""
        actor = self._actor
        if actor is SERVER:
            return
        if actor.kind is Kind.OPERATOR:
            self._note_ousted(deed)
            self._note_replay(deed)
            return
        for path, _, session_id in deed.created:
            self._judge_registration(path, session_id, deed)
        if actor.reference and actor.kind is Kind.CLIENT:
            return  # it submits and collects, each in one request
        if actor.reference:
            for path in (*deed.deleted, *(path for path, _, _ in deed.created)):
                task = task_of(path)
                if task is not None:
                    self.history(task).excused = True
        elif actor.kind is Kind.MASTER:
            self._judge_master(deed, is_primary=is_primary)
        elif actor.kind is Kind.WORKER:
            self._judge_worker(deed)
        else:
            self._judge_client(deed)

    def _note_ousted(self, deed: Deed) -> None:
        for path in deed.deleted:
            node = self.nodes.get(path)
            if node is not None:
                self.ousted[node.session_id] = None

    def _note_replay(self, deed: Deed) -> None:
        before = [path.removeprefix(f"{layout.DEAD}/") for path in deed.deleted if path.startswith(f"{layout.DEAD}/")]
        after = [path.removeprefix(f"{layout.TASKS}/") for path, _, _ in deed.created if path.startswith(layout.TASKS)]
        if before and after:
            has_key = any(data.decode() == after[0] for path, data, _ in deed.created if path.startswith(layout.KEYS))
            self._replayed(before[0], after[0], has_key)

    def _judge_registration(self, path: str, session_id: int, deed: Deed) -> None:
        folder, _, name = path.rpartition("/")
        if folder != layout.WORKERS:
            return
        if self._registered.get(name, session_id) != session_id:
            self._blame(f"registered as {name} again, which names another session's worker")
        self._registered[name] = session_id
        if not self._actor.reference and layout.inbox_path(name) not in [path for path, _, _ in deed.created]:
            self._blame(f"registered {name} without making its inbox in the same transaction")

    def _judge_master(self, deed: Deed, *, is_primary: bool) -> None:
        moved = [path for path in deed.deleted if task_of(path) is not None]
        put = [path for path, _, _ in deed.created if task_of(path) is not None]
        if (
            (moved or put)
            and not is_primary
            and deed.session_id not in self.ousted
            and not ((self._stands_in(moved) or self._have_ended(moved, put)) and self._led_by_reference(deed))
        ):
            self._blame(f"moved {', '.join([*moved, *put][:3])} although its session does not own {layout.MASTER}")
        for path in put:
            worker = inbox_of(path)
            if worker is not None and layout.worker_path(worker) not in self.nodes:
                self._blame(f"assigned {path} to a worker that is gone")
        for path in moved:
            worker = inbox_of(path)
            is_cancelled = layout.cancel_path(task_of(path) or "") in moved
            has_ended = self._led_by_reference(deed) and self._have_ended([path], put)
            if worker is not None and layout.worker_path(worker) in self.nodes and not (is_cancelled or has_ended):
                self._blame(f"took {path} from a worker that is alive")

    @staticmethod
    def _stands_in(moved: list[str]) -> bool:
        """Whether it is what one of ours does under a primary of the reference: sweep, promote, cancel, and take care
        of what that one has left lying."""
        folders = {path.split("/")[1] for path in moved}
        return any(folders <= each for each in _STANDING_IN) or "cancel" in folders

    def _have_ended(self, moved: list[str], put: list[str]) -> bool:
        """Whether it is only copies that go, which a role of the reference left of tasks with a status; a search
        for a task that is to be cancelled finds them."""
        return not put and all(layout.status_path(task_of(path) or "") in self.nodes for path in moved)

    @property
    def primary_slot(self) -> str | None:
        """The part whose session owns `/master`."""
        master = self.nodes.get(layout.MASTER)
        actor = None if master is None else self.actors.get(master.session_id)
        return None if actor is None else actor.slot

    def _led_by_reference(self, deed: Deed) -> bool:
        """Whether a master of the reference is the primary, or was it until just now, as others know it."""
        return self._reference_led is not None and deed.time - self._reference_led < self._grace_ms

    def _judge_worker(self, deed: Deed) -> None:
        for path in (*deed.deleted, *deed.changed):
            worker = inbox_of(path)
            if worker is not None and self._registered.get(worker) != deed.session_id:
                self._blame(f"touched {path}, which is in the inbox of another session's worker")
        for path, _, _ in deed.created:
            task = task_of(path)
            if task is not None and not any(task_of(other) == task and inbox_of(other) for other in deed.deleted):
                self._blame(f"created {path} without taking its assignment in the same transaction")

    def _judge_client(self, deed: Deed) -> None:
        submitted = [path for path, _, _ in deed.created if path.startswith(_WAITING) and task_of(path)]
        journals = [path for path in deed.changed if path.startswith(f"{layout.CLIENTS}/") and path.count("/") == 2]
        if submitted and len(journals) != 1:
            self._blame(f"submitted {submitted[0]} without counting the batch in its journal")
        if journals:
            if not submitted:
                self._blame(f"counted a batch without tasks in {journals[0]}")
            self._judge_batch(journals[0], deed)
        for path in deed.deleted:
            if task_of(path) is not None and not path.startswith(f"{layout.STATUS}/"):
                self._blame(f"deleted {path}")

    def _judge_batch(self, journal: str, deed: Deed) -> None:
        alive = [path for path in self.nodes if path.startswith(f"{journal}/")]
        if alive != [f"{journal}/{layout.alive_name(deed.session_id)}"]:
            self._blame(f"submitted by the journal {journal}, which announces {', '.join(alive) or 'nobody'}")

    # --- one task is in one place ------------------------------------------------------------------------------------

    def _judge_places(self, deed: Deed) -> None:
        created = {path: data for path, data, _ in deed.created}
        for path in deed.changed:
            if path.startswith(f"{layout.STATUS}/"):
                self._blame(f"overwrote {path}")
        for task, before in deed.places.items():
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
                    self.runs.judge_outcome(history, history.outcome, self._actor)
                if history.outcomes > 1 and not history.excused:
                    self._blame(f"gave {task} a second outcome")
            if before:
                self._judge_move(history, before, after)
            elif after:
                self._judge_arrival(history, after)

    def _judge_arrival(self, history: TaskHistory, after: tuple[str, ...]) -> None:
        actor = self._actor
        history.accepted += 1
        if actor.reference:
            return
        if actor.kind not in (Kind.CLIENT, Kind.OPERATOR):
            self._blame(f"brought {history.name} to {', '.join(after)} from nowhere")
        elif len(after) != 1:
            self._blame(f"submitted {history.name} to {', '.join(after)}")
        if history.accepted > 1:
            self._blame(f"submitted {history.name} a second time")

    def _judge_move(self, history: TaskHistory, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        if (
            history.silent
            and self._actor.kind is Kind.WORKER
            and not any(map(inbox_of, after))
            and len(after) < len(before)
        ):
            history.ended = True  # it leaves no outcome
        if self._actor.reference:
            if not after and not history.ended:
                self._blame(f"lost {history.name}, which was in {', '.join(before)}")
        elif len(after) > len(before):
            self._blame(f"left {history.name} in {', '.join(after)}, where it was in {', '.join(before)} only")
        elif not after and not history.ended:
            self._blame(f"lost {history.name}, which was in {', '.join(before)}")

    # --- the end -----------------------------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """What a settled world has not: tasks that wait, are assigned or never ended, inboxes without a worker."""
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
                    found.append(f"the inbox of {worker} is left, which is gone")
        found += [f"{task.name} has not ended" for task in self.tasks.values() if task.accepted and not task.ended]
        return found


def read_outcome(task: str, data: bytes) -> Outcome | None:
    """None for what is no outcome."""
    try:
        return decode_outcome(task, data)
    except BadOutcome:
        return None


def is_cancelled(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state is OutcomeState.CANCELLED
