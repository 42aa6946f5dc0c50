"""A model of flows: a client, masters that start steps, workers that end them, operators, and what ZooKeeper has.

Masters hear of a flow name by name, as late as they please, and read its header before they judge. A master is fenced
by its session as a primary, or it is not, as a master that stands in. What moves tasks between /tasks and the inboxes
happens at once: the other models look at that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from herdmaster.core.operations import DeleteNode, Move
from herdmaster.core.table import Failure
from tests.model import flow_rows as rows
from tests.model.engine import Model, Process, Step
from tests.model.flow_actors import Actors, Copier, Deleter
from tests.model.flow_graph import view
from tests.model.flow_minds import Actor, Master, Pair, Worker, apply, hear
from tests.model.flow_server import ENDED, LETTERS, Done, Refused, Rule, Setup, Zk, carry_out, places_of

# --- masters ---------------------------------------------------------------------------------------------------------


class Masters:
    """One of two masters, A or B."""

    def __init__(self, setup: Setup, letter: str) -> None:
        self._setup = setup
        self._me = f"master {letter}"
        self._is_first = letter == "A"
        self._title = f"Master {letter}"
        self._decided: dict[Hashable, list[Move]] = {}  # by what it knows

    def process(self) -> Process:
        return Process(("zk", "master A", "master B", "faults"), self._steps)

    def _steps(self, zk: Zk, first: Master, second: Master, faults: int) -> Iterator[Step]:
        me, other = (first, second) if self._is_first else (second, first)
        masters = (first, second)
        if me.link == "out":
            if self._setup.fenced and other.link != "out":
                return
            yield self._step("begins to act", Master("up", zk.names))
            return
        if me.request is not None:
            yield from self._arrive(zk, me, masters, faults)
        if me.link == "away":
            yield self._step("is back, and lists everything anew", Master("up", zk.names))
            yield self._step("loses its session", Master())
            return
        if faults:
            yield self._step("loses its connection", me._replace(link="away", unheard=()), fault=True)
        if me.unheard:
            yield self._step(f"hears {me.unheard[0]}", hear(me, 1))
        if me.version != zk.version("F") and zk.data("F") == "running":
            heard = hear(me, len(me.unheard))
            yield self._step("reads the header", heard._replace(version=zk.version("F")))
        if me.request is None:
            key = (me.names, me.version, zk.life)
            decided = self._decided.get(key)
            if decided is None:
                decided = self._decided[key] = list(self._decide(zk, me))
            for move in decided:
                yield self._step(f"decides: {move.transition} {move.task}", me._replace(request=move))
            yield from self._place(zk, masters)

    def _decide(self, zk: Zk, me: Master) -> Iterator[Move]:
        """Decide what follows from the picture alone; `zk` says only which flow of this name it is."""
        if me.version is None:
            return
        seen = view(me.names, stop=self._setup.stop)
        for entry in seen.ready():
            edges = seen.entries[entry]
            if edges and not self._setup.keeps(Rule.EDGES_WITH_START):
                yield rows.drop_edges(entry, edges)
            else:
                yield rows.start(self._setup, entry, edges, me.version, zk.life)
        if seen.at_rest():
            state = "cancelled" if seen.is_cancelled else "failed" if seen.failed else "done"
            yield rows.end(state, me.version)

    def _place(self, zk: Zk, masters: Pair) -> Iterator[Step]:
        """Move tasks: assign and recover them, and carry out requests to cancel them."""
        me = masters[0 if self._is_first else 1]
        seen = view(me.names, stop=self._setup.stop)
        for name in zk.children("tasks"):
            data = zk.data(f"tasks/{name}") or ""
            for letter in LETTERS[: self._setup.workers]:
                if zk.data(f"workers/{letter}") is not None and zk.data(f"assign/{letter}/{name}") is None:
                    place = rows.create(f"assign/{letter}/{name}", data.encode())
                    move = rows.move("assign", name, DeleteNode(f"tasks/{name}"), place)
                    yield self._at_once(f"assigns {name} to worker {letter}", zk, move, masters)
                elif zk.data(f"assign/{letter}/{name}") is not None:
                    move = rows.move("drop", name, DeleteNode(f"tasks/{name}"))
                    yield self._at_once(f"drops {name}, which is assigned", zk, move, masters)
        for letter in LETTERS[: self._setup.workers]:
            if zk.data(f"workers/{letter}") is None:
                for name in zk.children(f"assign/{letter}"):
                    data = zk.data(f"assign/{letter}/{name}") or ""
                    is_there = zk.data(f"tasks/{name}") is not None
                    created = () if is_there else (rows.create(f"tasks/{name}", data.encode()),)
                    move = rows.move("recover", name, DeleteNode(f"assign/{letter}/{name}"), *created)
                    yield self._at_once(f"recovers {name}", zk, move, masters)
        for name in seen.running:
            is_wanted = seen.is_cancelled or (seen.is_stopped and self._is_ordinary(name))
            if is_wanted and zk.data(f"cancel/{name}") is None:
                move = rows.move("ask", name, rows.create(f"cancel/{name}"))
                yield self._at_once(f"asks to cancel {name}", zk, move, masters)
        for name in zk.children("cancel"):
            yield from self._cancel(zk, name, me, masters)
        for name in seen.running:
            yield from self._lose(zk, name, me)

    def _lose(self, zk: Zk, name: str, me: Master) -> Iterator[Step]:
        """End a step that runs by the picture of the flow, and whose task is nowhere."""
        setup = self._setup
        if not setup.deletions or not setup.keeps(Rule.LOSE_STEP) or zk.data(f"F/running/{name}") is None:
            return
        if not setup.keeps(Rule.LOST_BEHIND_READ) or not any(path.endswith(f"/{name}") for path in places_of(zk)):
            yield self._step(f"decides: lose step {name}", me._replace(request=rows.lose(setup, zk, name)))

    def _is_ordinary(self, name: str) -> bool:
        return not self._setup.graph.of(name[1:].partition("r")[0]).mark

    def _cancel(self, zk: Zk, name: str, me: Master, masters: Pair) -> Iterator[Step]:
        letters = LETTERS[: self._setup.workers]
        places = [f"tasks/{name}", *(f"assign/{letter}/{name}" for letter in letters)]
        taken = [place for place in places if zk.data(place) is not None]
        if not taken and zk.data(f"F/running/{name}") is not None:
            yield from self._lose(zk, name, me)
        elif not taken or zk.data(f"F/running/{name}") is None:
            move = rows.move("drop cancel", name, DeleteNode(f"cancel/{name}"))
            yield self._at_once(f"drops the request to cancel {name}", zk, move, masters)
        for place in taken[:1]:
            move = rows.cancel_step(self._setup, zk, rows.held(zk, place))
            yield self._step(f"decides: cancel step {name}", me._replace(request=move))

    def _at_once(self, story: str, zk: Zk, move: Move, masters: Pair) -> Step:
        done, changes = apply(self._setup, zk, move, masters)
        assert isinstance(done, Done), (story, done)
        return Step(f"{self._title} {story}", changes, broken=done.broken)

    def _arrive(self, zk: Zk, me: Master, masters: Pair, faults: int) -> Iterator[Step]:
        assert me.request is not None
        told = f"ZooKeeper carries out: {me.request.transition} {me.request.task}"
        done, changes = apply(self._setup, zk, me.request, masters)
        if isinstance(done, Refused):
            version = None if done.failure is Failure.BAD_VERSION else me.version
            yield self._step(f"is refused at {done.path}", me._replace(request=None, version=version))
            return
        heard = changes[self._me]
        assert isinstance(heard, Master)
        heard = hear(heard, len(heard.unheard))  # a server sends an event before a reply that shows the change
        yield self._step(told, heard._replace(request=None), changes, broken=done.broken)
        if faults and me.link == "up":
            away = Master("away")
            yield self._step(f"is not told that {told}", away, changes, broken=done.broken, fault=True)

    def _step(
        self, story: str, mind: Master, changes: dict[str, Hashable] | None = None, *, broken: str | None = None,
        fault: bool = False,
    ) -> Step:  # fmt: skip
        counts = {"faults": -1} if fault else {}
        return Step(f"{self._title}: {story}", {**(changes or {}), self._me: mind}, counts, not fault, broken)


# --- workers ---------------------------------------------------------------------------------------------------------


class Workers:
    """One of the workers. One that died is replaced by another when its inbox is empty."""

    def __init__(self, setup: Setup, letter: str) -> None:
        self._setup = setup
        self._letter = letter
        self._me = f"worker {letter}"
        self._runs: dict[Hashable, list[Step]] = {}

    def process(self) -> Process:
        return Process(("zk", "master A", "master B", self._me, "faults"), self._steps)

    def _steps(self, zk: Zk, first: Master, second: Master, me: Worker, faults: int) -> Iterator[Step]:
        masters = (first, second)
        place = f"workers/{self._letter}"
        if zk.data(place) is None:
            if not zk.children(f"assign/{self._letter}"):
                move = rows.move("register", self._me, rows.create(place))
                yield Step(f"Another {self._me} begins", apply(self._setup, zk, move, masters)[1])
            return
        if me.request is not None:
            yield from self._arrive(zk, masters, me, faults)
        elif me.link == "up":
            steps = self._runs.get((zk, me))
            if steps is None:
                steps = self._runs[zk, me] = list(self._run(zk, me))
            yield from steps
        if me.link == "away":
            yield self._step("is back", Worker())
        if faults or me.link == "away":
            move = rows.move("expire", self._me, DeleteNode(place))
            counts = {} if me.link == "away" else {"faults": -1}
            changes = {**apply(self._setup, zk, move, masters)[1], self._me: Worker()}
            yield Step(f"The session of {self._me} ends", changes, counts, me.link == "away")

    def _run(self, zk: Zk, me: Worker) -> Iterator[Step]:
        setup = self._setup
        for name in zk.children(f"assign/{self._letter}"):
            held = rows.held(zk, f"assign/{self._letter}/{name}")
            if setup.keeps(Rule.EXPAND_SETS_RUNNING):
                held = _with_progress(zk, held)
            first = held.payload.step if held.payload.run == 0 else ""
            if held.payload.progress < setup.graph.of(held.payload.step).each:
                moves = [rows.expand(setup, zk, held, me.left_out)]
            elif first in setup.failing:
                moves = [rows.fail(setup, zk, held)]
            else:
                moves = [rows.complete(setup, zk, held, me.left_out)]
            if first in setup.may_fail:
                moves.append(rows.fail(setup, zk, held))
            for move in moves:
                yield self._step(f"ends its run of {name}: {move.transition}", me._replace(request=move))

    def _arrive(self, zk: Zk, masters: Pair, me: Worker, faults: int) -> Iterator[Step]:
        assert me.request is not None
        told = f"ZooKeeper carries out: {me.request.transition} {me.request.task}"
        done, changes = apply(self._setup, zk, me.request, masters)
        if isinstance(done, Refused):
            yield self._refused(zk, masters, me, done)
            return
        after = Worker() if me.link == "up" else Worker("away")
        yield self._step(told, after, changes, broken=done.broken)
        if faults and me.link == "up":
            yield self._step(f"is not told that {told}", Worker("away"), changes, broken=done.broken, fault=True)

    def _refused(self, zk: Zk, masters: Pair, me: Worker, refused: Refused) -> Step:
        assert me.request is not None
        name = me.request.task
        story = f"is refused at {refused.path}: {refused.failure}"
        if me.link == "away":
            return self._step(story, Worker("away"))
        place = f"assign/{self._letter}/{name}"
        is_edge = refused.path.startswith("F/steps/") and refused.failure is Failure.NO_NODE
        is_ended = zk.data(f"F/running/{name}") is None or (is_edge and not self._setup.keeps(Rule.EDGE_GONE))
        if is_ended and zk.data(place) is not None:
            move = rows.move("drop step assigned", name, DeleteNode(place))
            return self._step(f"{story}; it drops {name}", Worker(), apply(self._setup, zk, move, masters)[1])
        if is_edge:
            return self._step(f"{story}; it leaves that out", Worker("up", None, me.left_out | {refused.path}))
        return self._step(f"{story}; it looks again", Worker())

    def _step(
        self, story: str, mind: Worker, changes: dict[str, Hashable] | None = None, *, broken: str | None = None,
        fault: bool = False,
    ) -> Step:  # fmt: skip
        counts = {"faults": -1} if fault else {}
        title = self._me.capitalize()
        return Step(f"{title}: {story}", {**(changes or {}), self._me: mind}, counts, not fault, broken)


def _with_progress(zk: Zk, held: rows.Held) -> rows.Held:
    """Return the task with what other copies of it have done."""
    progress = int((zk.data(f"F/running/{held.task}") or "").partition(" ")[2] or 0)
    return held._replace(payload=held.payload._replace(progress=max(held.payload.progress, progress)))


# --- the whole -------------------------------------------------------------------------------------------------------


def build(setup: Setup) -> Model:
    registered = tuple((f"workers/{letter}", "", 0) for letter in LETTERS[: setup.workers])
    zk = Zk(tuple(sorted(registered)))
    client: tuple[str, ...] = ("submit",) * setup.batches
    if setup.batches == 1:
        done = carry_out(setup, zk, rows.submissions(setup, 1)[0])
        assert isinstance(done, Done)
        zk, client = done.zk, ()
    if setup.lives > 1:
        client = (*client, "submit again")
    initial: dict[str, Hashable] = {
        "zk": zk,
        "master A": Master(),
        "master B": Master(),
        "the client": Actor(),
        "operator 1": Actor(),
        "operator 2": Actor(),
        "copy": None,
    }
    processes = [Masters(setup, letter).process() for letter in "AB"]
    for letter in LETTERS[: setup.workers]:
        initial[f"worker {letter}"] = Worker()
        processes.append(Workers(setup, letter).process())
    acts = {"the client": client, "operator 1": setup.acts, "operator 2": setup.others}
    processes += [Actors(setup, me, each).process() for me, each in acts.items()]
    processes.append(Copier(setup).process())
    if setup.deletions:
        processes.append(Deleter(setup).process())
    settled: dict[str, Callable[..., bool]] = {
        "zk": _is_settled,
        "master A": lambda master: master.request is None,
        "master B": lambda master: master.request is None,
        "the client": lambda actor: actor.is_gone or actor.number >= len(client),
        "operator 1": lambda actor: actor.number >= len(setup.acts),
        "operator 2": lambda actor: actor.number >= len(setup.others),
        "copy": lambda copy: copy is None,
    }
    return Model(
        initial,
        {"faults": setup.faults, "copies": setup.copies, "deletions": setup.deletions},
        processes,
        (),
        settled,
        bits=20,
    )


def _is_settled(zk: Zk) -> bool:
    is_busy = any(path.startswith(("tasks/", "assign/", "cancel/", "F/running")) for path, _, _ in zk.nodes)
    return not is_busy and zk.data("F") in {None, *ENDED}
