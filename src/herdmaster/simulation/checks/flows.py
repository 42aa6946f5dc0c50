"""Check that a step runs once, and only when all that it needs is there; that none is forgotten; that a flow ends at
rest, with what became of its steps.

Part of the ledger. Each transaction is judged by the znodes of the flow before and after it, and by the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.flow_end import TIMEOUT
from herdmaster.core.flows import FlowState, decode_header
from herdmaster.core.members import FLOWS, decode_worker
from herdmaster.core.names import parse_flow_name
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import decode_call
from herdmaster.errors import BadOutcome, BadPayload
from herdmaster.simulation.checks.chunks import ChunkCheck
from herdmaster.simulation.checks.deleted_steps import LOST, DeletedSteps
from herdmaster.simulation.checks.effects import Actor, Effects, inbox_of, task_of
from herdmaster.simulation.checks.executions import PLANNED
from herdmaster.simulation.checks.flow_tree import ENDED, FlowTree
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.flow_values import evaluate, value_of
from herdmaster.simulation.plan.jobs import Code
from herdmaster.simulation.plan.plan import Kind

_FLOWS: Final = f"{layout.FLOWS}/"
_STATUS: Final = f"{layout.STATUS}/"
_TASKS: Final = f"{layout.TASKS}/"
_CANCEL: Final = f"{layout.CANCEL}/"
_ALWAYS_POSSIBLE: Final = frozenset({"WorkerLost"})
_STOPPED: Final = frozenset({"TaskCancelled", "TaskExpired"})
_OUTCOMES: Final = {
    FlowState.DONE: OutcomeState.DONE,
    FlowState.FAILED: OutcomeState.FAILED,
    FlowState.CANCELLED: OutcomeState.CANCELLED,
    FlowState.EXPIRED: OutcomeState.EXPIRED,
}


class FlowCheck:
    """`plans` are the planned flows by their index, which is the name in the header. `history` is that of the ledger; a
    flow has one under its znode's name, as a task has. `where` is as of `DeletedSteps`."""

    def __init__(
        self,
        plans: Mapping[int, PlannedFlow],
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        where: Callable[[str], tuple[str, ...]],
        report: Callable[[str], None],
    ) -> None:
        self._all_plans = plans
        self._nodes = nodes
        self._history = history
        self._report = report
        self._plans: dict[str, PlannedFlow] = {}  # of the flows that are there; a name with a key comes again
        self._trees: dict[str, dict[str, bytes]] = {}
        self._steps: dict[str, tuple[str, str]] = {}  # by task: flow and step
        self._given: dict[tuple[str, str], list[list[object]]] = {}  # what a step was given, for each of its runs
        self._made: set[str] = set()  # by the present transaction
        self._written: dict[str, int] = {}  # by flow: when its header was written, by the servers' clock
        self._stopped: dict[str, set[int]] = {}  # by flow: the sessions that asked to cancel what runs in it
        self.removed: set[str] = set()
        """Flows that were deleted with their outcomes; another of the name may be there."""
        self.chunks = ChunkCheck(report)
        self.deleted = DeletedSteps(self._steps, where)
        self.accepted: set[tuple[str, int]] = set()
        """The flows that began to run, by name and plan: flows of one key share a name, and a parent that runs again
        submits its child under another one."""
        self.names: dict[int, str] = {}
        """The flow that each planned flow became."""

    def announced(self, name: str, plan: PlannedFlow) -> None:
        self.names[plan.index] = name

    def was_there(self, name: str) -> bool:
        """Return whether there is, or was, a flow of the name."""
        return name in self._plans

    def is_made(self, task: str) -> bool:
        """Return whether the present transaction makes the task for a step."""
        return task in self._made

    def failed_path(self, task: str) -> str | None:
        """Return where a step stands when it has failed or was cancelled."""
        found = self._steps.get(task)
        return None if found is None else f"{_FLOWS}{found[0]}/failed/{found[1]}"

    # --- each transaction --------------------------------------------------------------------------------------------

    def check(self, effects: Effects, actor: Actor) -> None:
        """Check a transaction, before the ledger looks at the tasks in it."""
        self._made = set()
        self.deleted.begin()
        for path, data, _ in effects.created:
            if path.startswith(_FLOWS) and path.count("/") == _FLOWS.count("/"):
                self._note_creation(path.removeprefix(_FLOWS), data)
        touched = {flow for path in _paths(effects) if (flow := _flow_of(path)) in self._plans and flow}
        for flow in sorted(touched):
            before = FlowTree(flow, self._plans[flow], dict(self._trees.get(flow, {})))
            self._apply(flow, effects)
            after = FlowTree(flow, self._plans[flow], dict(self._trees.get(flow, {})))
            self._check_flow(before, after, effects, actor)
            if after.nodes.get("cancel") == TIMEOUT and "cancel" not in before.nodes:
                self._check_timeout(after, effects.time)
        if actor.kind is Kind.MASTER and not actor.reference:
            self._check_assignments(effects)
        if actor.kind is Kind.MASTER:
            self._note_stops(effects)
        elif actor.kind is Kind.OPERATOR:
            self.deleted.note(effects)
        for path, data, _ in effects.created:
            name = path.removeprefix(_STATUS)
            if path.startswith(_STATUS) and name in self._plans:
                self._check_outcome(name, data, touched)

    def _note_stops(self, effects: Effects) -> None:
        """Note that a master knows of the end of a flow: it asks to cancel a task of a flow that is to be cancelled. In
        a flow that stops at its first failure it may ask for that reason."""
        for path, _, _ in effects.created:
            flow, _ = self._steps.get(path.removeprefix(_CANCEL), ("", ""))
            is_cancelled = "cancel" in self._trees.get(flow, ())
            if path.startswith(_CANCEL) and is_cancelled and not self._plans[flow].stops:
                self._stopped.setdefault(flow, set()).add(effects.session_id)

    def _note_creation(self, name: str, data: bytes) -> None:
        try:
            plan = self._all_plans.get(int(decode_header(data).name))
        except (BadPayload, ValueError):
            return
        if plan is not None:
            self._plans[name] = plan
            self.chunks.forget(name)
            self.deleted.forget(name)
            self._given = {(flow, step): given for (flow, step), given in self._given.items() if flow != name}
            history = self._history(name)
            history.outcomes, history.ended = 0, False
            if layout.status_path(name) in self._nodes:
                self._report(f"made {name}, which has the outcome of an earlier flow")

    def _apply(self, flow: str, effects: Effects) -> None:
        prefix = f"{_FLOWS}{flow}"
        tree = self._trees.setdefault(flow, {})
        for path in effects.deleted:
            if _flow_of(path) == flow:
                tree.pop(path.removeprefix(prefix).removeprefix("/"), None)
        for path, data in [(path, data) for path, data, _ in effects.created] + list(effects.written.items()):
            if _flow_of(path) == flow:
                tree[path.removeprefix(prefix).removeprefix("/")] = data
        if prefix in effects.written or any(path == prefix for path, _, _ in effects.created):
            self._written[flow] = effects.time
        if "cancel" not in tree:
            self._stopped.pop(flow, None)

    def _check_flow(self, before: FlowTree, after: FlowTree, effects: Effects, actor: Actor) -> None:
        name = after.name
        if after.state is None:
            self._check_removed(before, after, effects)
            return
        if before.state in {None, FlowState.BUILDING} and after.state is FlowState.RUNNING:
            self._history(name).accepted += 1
            self.accepted.add((name, after.plan.index))
            missing = [step for step in self._defined(after) if not after.places(step)]
            if missing:
                self._report(f"started {name} without step {missing[0]}")
        if before.state in ENDED and after.state is FlowState.RUNNING and "cancel" in after.nodes:
            self._report(f"opened {name} again, and left the request to cancel it")
        if after.state in {FlowState.BUILDING, FlowState.REMOVED}:
            return
        for step in sorted({*before.known(), *self._defined(after)} if before.state != after.state else before.known()):
            places = after.places(step)
            if len(places) != 1:
                self._report(f"left step {step} of {name} in {', '.join(places) or 'no place'}")
        self._note_ended(before, after)
        for task in sorted(after.running.keys() - before.running.keys()):
            self._check_start(before, after, task, effects, actor)
        for step in sorted(set(after.children("results")) - set(before.children("results"))):
            self._check_result(before, after, step, effects)
        for step in sorted(after.failed - before.failed):
            self._check_failure(before, after, step, effects)
        self._history(name).ended = after.state in ENDED
        if before.state is FlowState.RUNNING and after.state in ENDED:
            self._check_end(before, after)

    def _check_timeout(self, tree: FlowTree, now_ms: int) -> None:
        timeout = None if tree.header is None else tree.header.timeout
        if timeout is None:
            self._report(f"let the time of {tree.name} be over, which has no limit")
        elif (early_ms := self._written[tree.name] + int(timeout * 1000) - now_ms) > 0:
            self._report(f"let the time of {tree.name} be over {early_ms} ms early")

    @staticmethod
    def _defined(tree: FlowTree) -> list[str]:
        return [str(number) for number in range(len(tree.plan.steps))]

    def _note_ended(self, before: FlowTree, after: FlowTree) -> None:
        for task in before.running.keys() - after.running.keys():
            history = self._history(task)
            history.ended = True
            history.cancelled |= before.running[task] in after.failed

    def _check_start(self, before: FlowTree, after: FlowTree, task: str, effects: Effects, actor: Actor) -> None:
        name, step = after.name, after.running[task]
        self._made.add(task)
        if task in self._steps:
            self._report(f"started step {step} of {name} as {task}, which was its task before")
        self._steps[task] = (name, step)
        if f"{_TASKS}{task}" not in {path for path, _, _ in effects.created}:
            self._report(f"let {task} run, and did not create it")
        if actor.kind is Kind.MASTER and effects.session_id in self._stopped.get(name, ()):
            self._report(f"started step {step} of {name}, whose tasks it cancels")
        if actor.kind is Kind.MASTER and not before.has_all(step):
            self._report(f"started step {step} of {name}, and not all that it needs is there")
        self._given.setdefault((name, step), []).append(after.given(step))

    def _check_result(self, before: FlowTree, after: FlowTree, step: str, effects: Effects) -> None:
        name = after.name
        task = next((task for task, each in before.running.items() if each == step), None)
        taken = [path for path in effects.deleted if inbox_of(path) and task_of(path) == task]
        if task is None or task in after.running:
            self._report(f"gave a result to step {step} of {name}, which did not run")
        elif self.deleted.has_no_payload(name, step):
            self._report(f"gave a result to step {step} of {name}, whose payload was deleted")
        elif not taken:
            self._report(f"gave a result to step {step} of {name} without taking the assignment of {task}")
        planned = after.plan.step(step)
        if planned is not None and planned.each and "+" not in step:
            self._check_each(after, planned, step, taken[:1])
        if planned is not None and step.isdecimal():
            added = [f"{step}+{number}" for number in range(planned.adds)]
            self._check_added(after, added)
        if planned is None or (planned.each and ("." not in step or planned.has_chunks)):
            return
        value, items = after.value(step), planned.items if step.isdecimal() else None
        lists = planned.lists if "+" not in step else None
        runs = self._given.get((name, step), [])
        right = [value_of(planned.job.index, after.element(step), given, items, lists) for given in runs]
        if value not in right:
            self._report(f"ended step {step} of {name} with {value!r}, where {right[-1:]} is right")

    def _check_each(self, after: FlowTree, planned: PlannedStep, step: str, taken: Iterable[str]) -> None:
        """Check the result of an `each`, or of a chunk. `taken` is the assignment of its task."""
        name, value = after.name, after.value(step)
        each, dot, number = step.partition(".")
        elements, chunk = after.elements(each), planned.chunk or 1
        if not dot:
            right: object = [len(elements), chunk] if planned.has_chunks else len(elements)
        elif planned.has_chunks:
            some = elements[int(number) * chunk : (int(number) + 1) * chunk]
            given = self._given.get((name, step), [[]])[-1]
            right = [value_of(planned.job.index, element, given, None, planned.lists) for element in some]
            for path in taken:
                self.chunks.check_done(name, step, inbox_of(path) or "", task_of(path) or "", self._nodes[path].data)
        else:
            return
        if value != right:
            self._report(f"ended step {step} of {name} with {value!r}, where {right!r} is right")

    def _check_failure(self, before: FlowTree, after: FlowTree, step: str, effects: Effects) -> None:
        """Check that there was a reason why a step failed."""
        planned = after.plan.step(step)
        data = after.nodes[f"failed/{step}"]
        info = decode_call(data).error
        kind = "" if info is None else info.type.removeprefix("herdmaster.errors.")
        task = next((task for task, each in before.running.items() if each == step), "")
        is_expected = (
            kind in _ALWAYS_POSSIBLE
            or (kind == PLANNED and planned is not None and planned.job.code is Code.FAIL)
            or (kind == LOST and self.deleted.lost(after.name, step, task))
        )
        if self.deleted.has_no_payload(after.name, step) and kind != LOST:
            is_expected = self.deleted.may_fail(after.name, step, kind)
        if kind == PLANNED and planned is not None and planned.has_chunks and "." in step:
            for path in effects.deleted:
                worker = inbox_of(path)
                if worker is not None and task_of(path) == task:
                    self.chunks.check_failed(after.name, step, worker, task, data)
        is_stopped = kind in _STOPPED and ("cancel" in after.nodes or after.plan.stops)
        if not is_expected and not is_stopped:
            self._report(f"failed step {step} of {after.name} with {kind or 'no error'}, for which there was no reason")

    def _check_added(self, after: FlowTree, added: Iterable[str]) -> None:
        for each in added:
            if not after.places(each):
                self._report(f"did not add step {each} to {after.name}")

    def _check_assignments(self, effects: Effects) -> None:
        for path, _, _ in effects.created:
            worker, task = inbox_of(path), task_of(path) or ""
            node = None if worker is None or task not in self._steps else self._nodes.get(layout.worker_path(worker))
            record = None if node is None else decode_worker(node.data)
            if record is not None and FLOWS not in record.features:
                self._report(f"assigned {task} to {worker}, which does not know flows")

    def _check_end(self, before: FlowTree, after: FlowTree) -> None:
        name, state = after.name, after.state
        if before.running:
            self._report(f"ended {name} while {min(before.running)} runs")
        if state in {FlowState.CANCELLED, FlowState.EXPIRED}:
            if "cancel" not in before.nodes:
                self._report(f"ended {name} as {state}, without a request")
            return
        if (state is FlowState.FAILED) is not bool(before.failed):
            self._report(f"ended {name} as {state}, and {len(before.failed)} of its steps failed")
        for step in before.startable():
            self._report(f"ended {name}, and step {step} has not run")
        if state is FlowState.DONE:
            for number, planned in enumerate(after.plan.steps):
                each = str(number)
                if planned.has_chunks:
                    self.chunks.check_all(name, each, sum(after.sizes(each)), after.items(each))
        if state is FlowState.DONE and not any(step.mark for step in after.plan.steps):
            self._check_values(after)

    def _check_values(self, tree: FlowTree) -> None:
        """Compare what a flow without failures came to with a plain sequential evaluation."""
        for step, right in evaluate(tree.plan).items():
            planned = tree.plan.step(step)
            value = tree.values(step) if planned is not None and planned.each else tree.value(step)
            if value != right:
                self._report(f"ended {tree.name} with {value!r} of step {step}, where {right!r} is right")

    def _check_removed(self, before: FlowTree, after: FlowTree, effects: Effects) -> None:
        if before.state is None:
            return
        self.removed.add(after.name)
        status = layout.status_path(after.name)
        if status in self._nodes and status not in effects.deleted:
            self._report(f"deleted {after.name}, and left its outcome")
        if before.state is not FlowState.REMOVED:
            self._report(f"deleted {after.name}, which is {before.state}")
        if any(after.nodes):
            self._report(f"deleted the header of {after.name}, and left {min(after.nodes)}")

    def _check_outcome(self, name: str, data: bytes, touched: Iterable[str]) -> None:
        tree = FlowTree(name, self._plans[name], self._trees.get(name, {}))
        history = self._history(name)
        try:
            outcome = decode_outcome(name, data)
        except BadOutcome as error:
            self._report(f"gave {name} an outcome that cannot be read: {error}")
            return
        if history.outcome is not None:
            history.earlier.append(history.outcome)
        history.outcome = outcome
        history.outcomes += 1
        history.cancelled = outcome.state is OutcomeState.CANCELLED
        if name not in touched or tree.state is None or _OUTCOMES.get(tree.state) is not outcome.state:
            self._report(f"gave {name}, which is {tree.state}, the outcome {outcome.state.value}")

    # --- at the end --------------------------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """Return the flows that run. One that is being built may have lost its client, and a master may leave while it
        deletes one."""
        found = []
        for name, nodes in self._trees.items():
            tree = FlowTree(name, self._plans[name], nodes)
            if tree.state is FlowState.RUNNING:
                places = [f"{step} in {', '.join(tree.places(step))}" for step in sorted(tree.known())]
                waiting = [each for each in places if "results/" not in each]
                found.append(f"{name} is {tree.state}, with {'; '.join(waiting[:5]) or 'nothing to do'}")
        return found


def _paths(effects: Effects) -> Iterable[str]:
    yield from effects.deleted
    yield from effects.written
    yield from (path for path, _, _ in effects.created)


def _flow_of(path: str) -> str | None:
    if not path.startswith(_FLOWS):
        return None
    name = path.split("/")[2]
    return name if parse_flow_name(name) is not None else None
