"""Plays one scenario after the other, and gathers the evidence of each."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final, Self

import msgspec

from chaos.actor import Actor
from chaos.cast import MASTERS, NAMESPACE, WORKERS, Cast, Stuck
from chaos.flow_judge import FlowJudge
from chaos.history import Historian, History
from chaos.judgement import Evidence, Judgement, judge
from chaos.records import Told, read_executions, read_notes
from chaos.remains import Scene, diverging, remains
from chaos.scenarios import Scenario
from chaos.stage import Say, Skipped, Stage
from chaos.transactions import TransactionLogs
from herdmaster.testing.apache import ServerStartFailed

SETTLE_SECONDS: Final = 90.0
DIVERGED_SECONDS: Final = 10.0
RESUME_SECONDS: Final = 1.0
"""Beside half a session timeout, for tasks to end again where sessions outlive a fault on the servers alone. A session
that no client closes lasts for a whole timeout."""

_WARM_UP_TASKS: Final = 10
_POLL: Final = 0.05


class Row(msgspec.Struct, frozen=True):
    """One scenario. `fault` is how long it was played, `settling` how long it took from its end until every task had
    ended, every client was done, every role was back and nothing was left; `pause` the longest time without an outcome,
    `resumed` the longest one after the end of the fault, which must not exceed `bar`. All in seconds. `diverged` are
    servers that came back without all of the transactions: ZooKeeper's own fault.
    """

    scenario: str
    summary: str
    fault: float = 0.0
    settling: float | None = None
    pause: float = 0.0
    judgement: Judgement | None = None
    diverged: tuple[str, ...] = ()
    skipped: str | None = None
    stuck: str | None = None
    resumed: float = 0.0
    bar: float | None = None

    @property
    def is_slow(self) -> bool:
        return self.bar is not None and self.resumed > self.bar

    @property
    def is_good(self) -> bool:
        if self.skipped is not None:
            return True
        return self.stuck is None and self.judgement is not None and self.judgement.is_clean and not self.is_slow


class Director:
    """`make_cast` gives the processes; they are replaced when a scenario leaves them in a state that does not mend."""

    def __init__(self, make_cast: Callable[[], Cast], say: Say, seed: int) -> None:
        self._make_cast = make_cast
        self._say = say
        self._seed = seed
        self._stack = ExitStack()
        self._cast: Cast | None = None
        self._historian = Historian(NAMESPACE)
        self._flow_judge = FlowJudge(NAMESPACE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def play(self, scenarios: Iterable[Scenario]) -> Iterable[Row]:
        """Raises Stuck when not even a new cast comes up."""
        for scenario in scenarios:
            cast = self._ready_cast()
            row = self._play(scenario, cast)
            if row.stuck is not None:
                self._stack.close()
                self._cast = None
            yield row
        if self._cast is not None:
            yield _wait_for_inboxes(self._cast)

    def _ready_cast(self) -> Cast:
        if self._cast is None:
            self._say("starting three servers, two masters and four workers")
            self._cast = self._stack.enter_context(self._make_cast())
            self._historian = Historian(NAMESPACE)
            self._flow_judge = FlowJudge(NAMESPACE)
        return self._cast

    def _read_history(self, cast: Cast) -> History:
        """Return what has happened since the last call."""
        transactions = cast.logs.read(self._historian.last_zxid)
        self._flow_judge.read(transactions)
        return self._historian.tell(transactions)

    def _play(self, scenario: Scenario, cast: Cast) -> Row:
        bar = cast.session_timeout / 2 + RESUME_SECONDS if scenario.resumes_soon else None
        row, mended = Row(scenario.name, scenario.summary, bar=bar), 0.0
        self._say(f"{scenario.name}: {scenario.summary}")
        self._read_history(cast)
        with cast.clients(scenario.name) as clients:
            stage = Stage(cast, clients, self._historian, self._say, self._seed)
            try:
                began = time.monotonic()
                _warm_up(stage)
                began = time.monotonic()
                scenario.play(stage)
                row = msgspec.structs.replace(row, fault=time.monotonic() - began)
                ended, mended = time.monotonic(), time.time()
                stuck = _settle(stage)
                row = msgspec.structs.replace(row, settling=time.monotonic() - ended, stuck=stuck)
            except Skipped as reason:
                _settle(stage)
                return msgspec.structs.replace(row, skipped=str(reason))
            except (Stuck, ServerStartFailed, TimeoutError, RuntimeError) as reason:
                row = msgspec.structs.replace(row, stuck=str(reason))
            return self._judge(row, stage, mended)

    def _judge(self, row: Row, stage: Stage, mended: float) -> Row:
        cast = stage.cast
        since = self._historian.last_zxid
        history = self._read_history(cast)
        notes = {client.name: tuple(read_notes(cast.record(client.name))) for client in stage.clients}
        tags = tuple(f"{client.name.replace(' ', '-')}-" for client in stage.clients)
        actors = [*cast.roles, *stage.clients]
        evidence = Evidence(
            notes=notes,
            executions=[each for each in read_executions(cast.executions) if each.tag.startswith(tags)],
            history=history,
            remains=remains(cast.lookout.look_everywhere(), cast.clients_killed),
            faults=[
                *(f"{actor.name}: {text}" for actor in actors for text in actor.new_tracebacks()),
                *self._flow_judge.take_faults(),
            ],
            successors=frozenset(stage.successors),
        )
        times = [at / 1000 for at in history.ended_at.values()]
        row = msgspec.structs.replace(
            row, judgement=judge(evidence), pause=longest_pause(times), resumed=longest_pause(times, mended)
        )
        return row if row.stuck else msgspec.structs.replace(row, diverged=_mend_diverged(cast, since))


def _wait_for_inboxes(cast: Cast) -> Row:
    """The inboxes of workers that no living primary remembers go after a minute."""
    began = time.monotonic()
    judgement = judge(Evidence({}, (), History()))
    while inboxes := max(
        (scene.empty_inboxes for scene in cast.lookout.look_everywhere() if scene is not None), default=0
    ):
        if time.monotonic() - began > SETTLE_SECONDS:
            judgement = msgspec.structs.replace(judgement, left=[f"{inboxes} empty inboxes without a worker"])
            break
        time.sleep(_POLL)
    return Row("the end", "inboxes of workers that are gone", settling=time.monotonic() - began, judgement=judgement)


def _warm_up(stage: Stage) -> None:
    """The clients are at work."""

    def are_at_work() -> bool:
        return all(_told(stage.cast, client) >= _WARM_UP_TASKS for client in stage.clients)

    stage.cast.wait_for(are_at_work, "the clients are not at work")


def _told(cast: Cast, client: Actor) -> int:
    return sum(1 for note in read_notes(cast.record(client.name)) if isinstance(note, Told))


def _settle(stage: Stage) -> str | None:
    """Stop the clients, and wait until no task moves. Return what still moves if that takes too long."""
    cast = stage.cast
    for client in stage.clients:
        if client.name not in stage.successors:  # they end when they have been told what they wait for
            client.send(signal.SIGTERM)
    limit = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < limit:
        if not any(client.is_running for client in stage.clients) and _is_at_rest(cast):
            return None
        cast.check()
        time.sleep(_POLL)
    running = ", ".join(client.name for client in stage.clients if client.is_running) or "none"
    seen = cast.lookout.look_everywhere()
    return f"not at rest after {SETTLE_SECONDS:.0f} s; clients that wait: {running}; seen: {seen}\n{cast.log_tails()}"


def _is_at_rest(cast: Cast) -> bool:
    scenes = cast.lookout.look_everywhere()
    return not remains(scenes, cast.clients_killed) and all(scene is not None and _is_whole(scene) for scene in scenes)


def _is_whole(scene: Scene) -> bool:
    return scene.primary_pid is not None and (scene.masters, scene.workers) == (MASTERS, WORKERS)


def _mend_diverged(cast: Cast, since: int) -> tuple[str, ...]:
    """A server that for long shows what no other does has lost transactions. That is ZooKeeper's own fault: one that is
    killed soon after it joined may not have logged all that it acknowledged (ZOOKEEPER-4646, ZOOKEEPER-4785), and one
    whose disk was full has a hole in its log (ZOOKEEPER-4882). It is told of, with what its log lacks since that zxid,
    and starts again without its data, as an operator would do it."""
    limit = time.monotonic() + DIVERGED_SECONDS
    while diverged := diverging(cast.lookout.look_everywhere()):
        if time.monotonic() > limit:
            return tuple(_mend_server(cast, number, paths, since) for number, paths in diverged.items())
        time.sleep(_POLL)
    return ()


def _mend_server(cast: Cast, number: int, paths: tuple[str, ...], since: int) -> str:
    server = cast.servers[number]
    own = {each.zxid for each in TransactionLogs([server.data_dir]).read(since)}
    lacking = [f"{each.zxid:x}" for each in cast.logs.read(since) if each.zxid not in own]
    cast.start_without_data(server)
    lacks = (
        f"its log lacks {len(lacking)} transactions, {', '.join(lacking[:3])} first" if lacking else "its log is whole"
    )
    return f"server {number + 1} alone shows {', '.join(paths)}; {lacks}"


def longest_pause(times: Iterable[float], since: float = 0.0) -> float:
    """Seconds between two outcomes, or between `since` and the first one after it."""
    later = sorted(at for at in times if at >= since)
    if since and later:
        later.insert(0, since)
    return max((after - before for before, after in itertools.pairwise(later)), default=0.0)
