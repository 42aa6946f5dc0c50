"""What no event tells of is found by counting."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.roles.primary.recount import Recount
from herdmaster.zookeeper.client import Callback
from herdmaster.zookeeper.model import Stat

pytestmark = pytest.mark.fallback("_AGAIN_SECONDS")  # the clock is the test's


class FakePicture:
    """What is looked at, and the client that is asked."""

    def __init__(self) -> None:
        self.is_current = True
        self.names_in_tasks = 5
        self.now = 0.0
        self.count = 5
        self.listings = 0
        self.asked = 0

    def clock(self) -> float:
        return self.now

    def exists_nowait(self, path: str, done: Callback[Stat]) -> None:
        assert path == layout.TASKS
        self.asked += 1
        done(Stat(*(0,) * 9, self.count, 0), None)

    def list_again(self) -> None:
        self.listings += 1


@pytest.fixture
def picture() -> FakePicture:
    return FakePicture()


def look(picture: FakePicture, recount: Recount) -> None:
    picture.now = recount.next_wakeup() or picture.now
    recount.step()


def new(picture: FakePicture) -> Recount:
    return Recount(picture, picture, lambda: None, picture.list_again, 60.0)  # type: ignore[arg-type]  # it plays both parts


def test_it_looks_once_a_minute_and_lists_nothing_while_the_numbers_agree(picture: FakePicture) -> None:
    recount = new(picture)
    for _ in range(10):
        recount.step()
        look(picture, recount)

    assert (picture.asked, picture.now, picture.listings) == (10, 600.0, 0)


def test_a_difference_that_lasts_makes_it_list_anew_once(picture: FakePicture) -> None:
    recount = new(picture)
    picture.count = 6
    look(picture, recount)
    assert picture.listings == 0
    look(picture, recount)
    assert (picture.listings, picture.now) == (1, 61.0)
    picture.names_in_tasks = 6
    look(picture, recount)
    look(picture, recount)

    assert (picture.listings, picture.now) == (1, 181.0)


def test_a_difference_that_changes_or_that_an_interruption_explains_is_nothing(picture: FakePicture) -> None:
    recount = new(picture)
    for count, is_current in ((6, True), (7, True), (5, True), (9, False), (9, False)):
        picture.count, picture.is_current = count, is_current
        look(picture, recount)

    assert picture.listings == 0
