from __future__ import annotations

from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.zookeeper import errors


def test_the_lack_of_each_right_is_news_once() -> None:
    lacked = LackedRights()
    first = errors.NoAuth("/tasks/a", "CREATE on /tasks")
    assert lacked.is_news(first)
    assert not lacked.is_news(errors.TransactionFailed(3, errors.NoAuth("/tasks/b", "CREATE on /tasks")))
    assert lacked.is_news(errors.NoAuth("/tasks/b", "DELETE on /tasks"))
    assert lacked.is_news(errors.NoAuth("/tasks/b"))
    assert not lacked.is_news(errors.NoAuth("/tasks/b"))


def test_any_other_error_is_always_news() -> None:
    lacked = LackedRights()
    assert [lacked.is_news(error) for error in [errors.NoNode("/tasks")] * 2] == [True, True]


def test_endless_paths_do_not_fill_the_memory() -> None:
    lacked = LackedRights()
    assert sum(lacked.is_news(errors.NoAuth(f"/x/{number}")) for number in range(300)) == 100
