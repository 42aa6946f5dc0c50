"""The dispatcher against a simulated ZooKeeper: every order of listings, events, replies, faults and others' doings."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from herdmaster.core import layout, transitions
from herdmaster.core.members import WorkerRecord, encode_record
from herdmaster.core.names import call_name
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.queues import QueueSettings, encode_queue
from herdmaster.core.transitions import CreateNode, DeleteNode
from tests.core.primary_model import PrimaryModel

WORKERS = st.sampled_from([f"worker-{letter}" for letter in "abcd"])
CONDITIONAL = [call_name(f"0{number:025d}", conditional=True) for number in range(5)]
TASKS = st.sampled_from([f"task-{number:010d}" for number in range(9)] + CONDITIONAL)
LIMITS = st.sampled_from(
    [
        None,
        b"garbage",
        encode_queue(QueueSettings(paused=True)),
        encode_queue(QueueSettings(max_running=1)),
        encode_queue(QueueSettings(max_running=3, rate=2.0)),
    ]
)
RECORD = encode_record(WorkerRecord(2))
FEW = st.integers(0, 4)


def payload_of(task: str) -> bytes:
    """Two of the conditional tasks expire in the time of the model, one says nothing that can be read."""
    if task not in CONDITIONAL[:4]:
        return b"payload"
    expires = {CONDITIONAL[0]: 1500, CONDITIONAL[1]: 32_000}.get(task)
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), expires=expires))


class PrimaryAtWork(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = PrimaryModel()
        self.used: set[str] = set()  # a name is never used twice
        self.gone: set[str] = set()  # nor is a worker's
        self.half_done: set[tuple[str, str]] = set()  # a status, but the assignment is still there

    @property
    def nodes(self) -> dict[str, bytes]:
        return self.model.tree.nodes

    def inbox(self, worker: str) -> list[str]:
        return sorted(self.model.tree.children(layout.inbox_path(worker)) or ())

    # --- what a reference primary may have left behind ---------------------------------------------------------------

    @initialize(
        waiting=st.sets(TASKS),
        held=st.dictionaries(WORKERS, st.tuples(st.sets(TASKS), st.booleans())),
        ended=st.sets(TASKS),
    )
    def takeover(self, waiting: set[str], held: dict[str, tuple[set[str], bool]], ended: set[str]) -> None:
        self.used = waiting | ended
        self.nodes.update({layout.task_path(task): payload_of(task) for task in waiting})
        self.nodes.update({layout.status_path(task): b"done" for task in ended})
        for worker, (tasks, is_alive) in held.items():
            self.used |= tasks
            self.nodes[layout.inbox_path(worker)] = b""
            self.nodes.update({layout.assignment_path(worker, task): payload_of(task) for task in tasks})
            if is_alive:
                self.nodes[layout.worker_path(worker)] = RECORD
            else:
                self.gone.add(worker)
            self.half_done |= {(worker, task) for task in tasks & ended}
        self.model.connect()

    # --- others ------------------------------------------------------------------------------------------------------

    @rule(task=TASKS)
    def client_submits(self, task: str) -> None:
        if task not in self.used:
            self.used.add(task)
            self.model.write(CreateNode(layout.task_path(task), payload_of(task)))

    @rule(task=TASKS)
    def client_collects(self, task: str) -> None:
        if not any(half == task for _, half in self.half_done):
            self.model.write(DeleteNode(layout.status_path(task)))

    @rule(worker=WORKERS)
    def worker_joins(self, worker: str) -> None:
        if worker not in self.gone:
            inbox, record = layout.inbox_path(worker), layout.worker_path(worker)
            self.model.write(CreateNode(inbox, b""), CreateNode(record, RECORD))

    @rule(worker=WORKERS)
    def worker_is_lost(self, worker: str) -> None:
        if self.model.write(DeleteNode(layout.worker_path(worker))):
            self.gone.add(worker)

    @rule(worker=WORKERS)
    def worker_leaves(self, worker: str) -> None:
        if self.model.write(DeleteNode(layout.worker_path(worker)), DeleteNode(layout.inbox_path(worker))):
            self.gone.add(worker)

    @rule(worker=WORKERS, which=FEW, hands_back=st.booleans())
    def worker_ends_a_task(self, worker: str, which: int, hands_back: bool) -> None:
        inbox = self.inbox(worker)
        if layout.worker_path(worker) in self.nodes and which < len(inbox):
            task = inbox[which]
            if hands_back:
                self.model.write(*transitions.hand_back(worker, task, payload_of(task)).operations)
            elif not self.model.write(*transitions.complete(worker, task, b"done").operations):
                self.model.write(*transitions.drop_assignment_because_status(worker, task).operations)
            if layout.assignment_path(worker, task) not in self.nodes:
                self.half_done.discard((worker, task))

    @rule(worker=WORKERS, which=FEW)
    def reference_worker_ends_half(self, worker: str, which: int) -> None:
        inbox = self.inbox(worker)
        is_there = layout.worker_path(worker) in self.nodes and which < len(inbox)
        if is_there and self.model.write(CreateNode(layout.status_path(inbox[which]), b"done")):
            self.half_done.add((worker, inbox[which]))

    @rule(limits=LIMITS)
    def operator_limits_the_queue(self, limits: bytes | None) -> None:
        self.model.set_queue("default", limits)

    # --- the connection and the primary ------------------------------------------------------------------------------

    @precondition(lambda self: self.model.is_connected)
    @rule(processed=FEW, lost=FEW)
    def connection_breaks(self, processed: int, lost: int) -> None:
        self.model.disconnect(processed, lost)

    @precondition(lambda self: not self.model.is_connected)
    @rule()
    def connection_is_back(self) -> None:
        self.model.connect()

    @precondition(lambda self: self.model.is_connected and self.model.outbox)
    @rule(count=st.integers(1, 10))
    def server_works(self, count: int) -> None:
        for _ in range(min(count, len(self.model.outbox))):
            self.model.process()

    @precondition(lambda self: self.model.wire)
    @rule(count=st.integers(1, 10))
    def folders_are_told(self, count: int) -> None:
        for _ in range(min(count, len(self.model.wire))):
            self.model.wire.popleft()()

    @precondition(lambda self: self.model.replies)
    @rule(count=st.integers(1, 10))
    def replies_are_told(self, count: int) -> None:
        for _ in range(min(count, len(self.model.replies))):
            self.model.replies.popleft()[1]()

    @rule(room=st.integers(0, 8))
    def primary_decides(self, room: int) -> None:
        self.model.decide(room)

    @rule(seconds=st.sampled_from([0.1, 1.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.model.now += seconds

    @invariant()
    def it_wakes_up_for_something(self) -> None:
        wakeup = self.model.dispatcher.next_wakeup()
        if wakeup is not None and wakeup <= self.model.now and not self.model.dispatcher._marks._under_way:
            # Then deciding makes progress, or the primary would spin.
            before = (len(self.model.dispatcher._marks._postponed), self.model.dispatcher.next_wakeup())
            assert self.model.decide(100) or before != (
                len(self.model.dispatcher._marks._postponed),
                self.model.dispatcher.next_wakeup(),
            )

    @invariant()
    def what_runs_is_counted_right(self) -> None:
        dispatcher = self.model.dispatcher
        if dispatcher._throttle._counts and not dispatcher._throttle.needs_count:
            held = sum(1 for worker in dispatcher._roster for _ in worker.held)
            assert dispatcher._throttle._running.get("default", 0) == held

    # --- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Faults and limits stop, and everything settles."""
        model = self.model
        model.set_queue("default", None)
        if not model.is_connected:
            model.connect()
        for worker, task in self.half_done:
            if layout.worker_path(worker) in self.nodes:
                model.write(DeleteNode(layout.assignment_path(worker, task)))
        for _ in range(200):
            while model.outbox or model.wire or model.replies:
                while model.outbox:
                    model.process()
                while model.wire:
                    model.wire.popleft()()
                while model.replies:
                    model.replies.popleft()[1]()
            if not model.decide(100):
                expiry = model.dispatcher.next_expiry_ms()
                times = [model.dispatcher.next_wakeup(), None if expiry is None else expiry / 1000]
                wakeups = [time for time in times if time is not None]
                if not wakeups:
                    break
                model.now = max(model.now, min(wakeups))
        else:
            raise AssertionError("it does not settle")
        self.check_nothing_is_held()
        self.check_each_task_is_where_it_belongs()

    def check_nothing_is_held(self) -> None:
        dispatcher = self.model.dispatcher
        assert self.model.decided == dispatcher._marks._under_way == {}
        assert dispatcher._copies == {}
        assert dispatcher._backlog._held == {}
        assert not dispatcher._marks._postponed
        assert dispatcher._roster.lost() == []
        assert all(not worker.incoming for worker in dispatcher._roster)

    def check_each_task_is_where_it_belongs(self) -> None:
        dispatcher, tree = self.model.dispatcher, self.model.tree
        waiting = set(tree.children(layout.TASKS) or ())
        alive = set(tree.children(layout.WORKERS) or ())
        assert set(dispatcher._backlog) == waiting
        assert {worker.name for worker in dispatcher._roster} == alive == set(tree.children(layout.ASSIGN) or ())
        for worker in dispatcher._roster:
            inbox = set(self.inbox(worker.name))
            assert worker.inbox == inbox
            assert not waiting & inbox, "in two places"
            assert worker.load >= worker.window or not waiting, "a task waits although there is room"


PrimaryAtWork.TestCase.settings = settings(
    max_examples=int(os.environ.get("HERDMASTER_EXAMPLES", "60")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine is shared
)
TestPrimaryAtWork = pytest.mark.long(PrimaryAtWork.TestCase)
