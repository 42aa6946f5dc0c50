"""Clients and operators of the modelled flows, and a reference master among them."""

from __future__ import annotations

from collections.abc import Iterator

from herdmaster.core.operations import DeleteNode, Move
from tests.model import flow_rows as rows
from tests.model.engine import Process, Step
from tests.model.flow_minds import Actor, Master, apply
from tests.model.flow_server import ENDED, LETTERS, Done, Refused, Rule, Setup, Zk, carry_out, places_of


class Actors:
    """A client or an operator, who does one thing after the other, and repeats what is refused or unanswered."""

    def __init__(self, setup: Setup, me: str, acts: tuple[str, ...]) -> None:
        self._setup = setup
        self._me = me
        self._acts = acts

    def process(self) -> Process:
        return Process(("zk", "master A", "master B", self._me, "faults"), self._steps)

    def _steps(self, zk: Zk, first: Master, second: Master, me: Actor, faults: int) -> Iterator[Step]:
        if me.number >= len(self._acts) or me.is_gone:
            return
        act, title = self._acts[me.number], self._me.capitalize()
        if act == "submit" and me.number and faults:
            yield Step(f"{title} dies", {self._me: Actor(is_gone=True)}, {"faults": -1}, False)
        if me.request is not None:
            told = f"ZooKeeper carries out for {self._me}: {me.request.transition} {me.request.task}"
            done, changes = apply(self._setup, zk, me.request, (first, second))
            if isinstance(done, Refused):
                yield Step(f"{title} is refused at {done.path}", {self._me: self._after_refusal(me, act)})
                return
            yield Step(told, {**changes, self._me: self._after(me, act)}, broken=done.broken)
            return
        found = self._decide(zk, me, act)
        if found is True:
            yield Step(f"{title} finds done: {act}", {self._me: Actor(me.number + 1)})
        elif found:
            yield Step(f"{title} asks: {found.transition} {found.task}", {self._me: me._replace(request=found)})

    def _after(self, me: Actor, act: str) -> Actor:
        return Actor(me.number) if act == "delete" else Actor(me.number + 1)

    def _after_refusal(self, me: Actor, act: str) -> Actor:
        return Actor(me.number, is_gone=act == "submit")

    def _decide(self, zk: Zk, me: Actor, act: str) -> Move | bool:
        """Return what to do, True if nothing is to be done, and False if it has to wait."""
        setup, state = self._setup, zk.data("F")
        if act == "submit":
            return rows.submissions(setup, zk.life)[me.number]
        if act == "submit again":
            return state is None and rows.submissions(setup, zk.life + 1)[0]
        if act == "cancel":
            return rows.cancel() if zk.data("F/running") is not None and zk.data("F/cancel") is None else state in ENDED
        if act == "retry":
            if state == "running":
                failed = zk.children("F/failed")
                return rows.retry(setup, zk, failed[0]) if failed else True
            return rows.reopen(setup, zk) if state in ENDED else state != "building"
        if act == "remove":
            if state not in {"building", *ENDED}:
                return False
            return rows.mark_removed(zk) if setup.keeps(Rule.REMOVED_FIRST) else True
        assert act == "delete"
        if state is not None and setup.keeps(Rule.REMOVED_FIRST) and state != "removed":
            return zk.life == self._setup.lives  # another has deleted it
        return rows.delete_leaf(setup, zk) or True


class Deleter:
    """A person who deletes tasks by hand, wherever they are."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def process(self) -> Process:
        return Process(("zk", "deletions"), self._steps)

    def _steps(self, zk: Zk, deletions: int) -> Iterator[Step]:
        for path in places_of(zk) if deletions else ():
            done = carry_out(self._setup, zk, rows.move("delete by hand", path, DeleteNode(path)))
            assert isinstance(done, Done)
            yield Step(f"A person deletes {path}", {"zk": done.zk}, {"deletions": -1}, False, done.broken)


class Copier:
    """A reference master: it creates tasks again that it saw in an inbox, whatever became of them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def process(self) -> Process:
        return Process(("zk", "copy", "copies"), self._steps)

    def _steps(self, zk: Zk, copy: tuple[str, str] | None, copies: int) -> Iterator[Step]:
        if copy is None and copies:
            for letter in LETTERS[: self._setup.workers]:
                for name in zk.children(f"assign/{letter}"):
                    seen = (name, zk.data(f"assign/{letter}/{name}") or "")
                    yield Step(f"A reference master reads {name}", {"copy": seen}, {"copies": -1}, False)
        if copy is not None:
            name, data = copy
            done = carry_out(self._setup, zk, rows.move("copy", name, rows.create(f"tasks/{name}", data.encode())))
            if isinstance(done, Done):
                yield Step(f"A reference master makes {name} again", {"copy": None, "zk": done.zk}, progress=False)
            yield Step("The reference master is gone", {"copy": None})
