from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.actor import Actor
from chaos.links import Network
from tests.cli.processes import wait_until

FAILING = """
import sys, time, traceback
for number in range(2):
    try:
        raise KeyError(number)
    except KeyError:
        traceback.print_exc()
print("more", file=sys.stderr)
time.sleep(60)
"""


@pytest.fixture
def actor(tmp_path: Path) -> Iterator[Actor]:
    (tmp_path / "failing.py").write_text(FAILING)
    with pytest.MonkeyPatch.context() as patch, Network() as network:
        patch.setenv("PYTHONPATH", str(tmp_path))
        actor = Actor("an actor", network.open_links([1]), ["failing"], tmp_path)
        actor.start()
        yield actor
        actor.kill()


def test_every_traceback_is_told_once(actor: Actor) -> None:
    wait_until(lambda: "more" in actor.log_tail(), "it wrote nothing")
    assert actor.new_tracebacks() == ["KeyError: 0", "KeyError: 1"]
    assert actor.new_tracebacks() == []


def test_one_that_was_killed_has_not_ended_by_itself(actor: Actor) -> None:
    actor.kill()
    assert (actor.is_running, actor.ended_by_itself) == (False, False)


def test_one_that_fails_at_its_start_has_ended_by_itself(tmp_path: Path) -> None:
    with Network() as network:
        actor = Actor("actor", network.open_links([1]), ["no_such_module"], tmp_path)
        actor.start()
        wait_until(lambda: actor.ended_by_itself, "it runs")
        actor.kill()
