from __future__ import annotations

import pytest

from chaos.__main__ import main
from chaos.director import Row, longest_pause
from chaos.failover import Takeovers
from chaos.history import History
from chaos.judgement import Evidence, judge
from chaos.report import Report, as_json, table
from chaos.scenarios import SCENARIOS

CLEAN = judge(Evidence({}, (), History()))
LOST = judge(Evidence({}, (), History(), ["/tasks/task-1"]))


def report(*rows: Row, takeovers: tuple[Takeovers, ...] = ()) -> Report:
    return Report(4.0, 0.2, 30.0, 7, 2, 1.0, 2.0, 60.0, list(rows), list(takeovers))


def test_the_list_names_every_scenario(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", "--list"])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [scenario.name for scenario in SCENARIOS]


@pytest.mark.parametrize("arguments", [["--scenario", "nonsense"], ["--failover", "0"]])
def test_what_it_cannot_do_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_row_is_good_only_when_nothing_is_to_complain_about() -> None:
    assert Row("one", "", judgement=CLEAN).is_good
    assert Row("one", "", skipped="no tmpfs").is_good
    assert not Row("one", "", judgement=LOST).is_good
    assert not Row("one", "", judgement=CLEAN, stuck="it hangs").is_good
    assert not Row("one", "").is_good
    assert Row("one", "", judgement=CLEAN, resumed=6.0, bar=6.0).is_good
    assert not Row("one", "", judgement=CLEAN, resumed=6.1, bar=6.0).is_good
    assert Row("one", "", judgement=CLEAN, resumed=60.0).is_good


def test_a_pause_counts_from_when_all_was_mended() -> None:
    times = [100.0, 101.0, 109.0, 110.0]
    assert longest_pause(times) == 8.0
    assert longest_pause(times, since=106.5) == 2.5
    assert longest_pause(times, since=111.0) == 0.0
    assert longest_pause([]) == 0.0


def test_what_loses_its_sessions_on_the_servers_last_is_held_to_a_bar() -> None:
    assert [scenario.name for scenario in SCENARIOS if scenario.resumes_soon] == ["quorum-lost", "leader-cut-off"]


def test_the_table_tells_what_was_found_and_why() -> None:
    rows = (
        Row("one", "", 1.0, 2.0, 0.5, CLEAN),
        Row("two", "", 1.0, 2.0, 0.5, LOST),
        Row("three", "", skipped="no tmpfs"),
        Row("four", "", 1.0, 90.0, 0.5, CLEAN, stuck="it hangs"),
        Row("five", "", 1.0, 2.0, 9.0, CLEAN, resumed=8.04, bar=6.0),
    )
    text = "\n".join(table(report(*rows, takeovers=(Takeovers("SIGKILL", (1.0, 2.0, 4.0)),))))
    assert "session timeout 4 s" in text
    assert "seed 7" in text
    assert "two: /tasks/task-1 was left behind" in text
    assert "skipped: no tmpfs" in text
    assert "four: it hangs" in text
    assert "five: no task ended for 8.0 s after all was mended; 6.0 s are allowed" in text
    assert text.endswith("SIGKILL        3    1.00 s    2.00 s    4.00 s")


def test_json_has_the_rows_and_the_conditions() -> None:
    text = as_json(report(Row("one", "", 1.0, 2.0, 0.5, LOST)))
    assert '"session_timeout": 4.0' in text
    assert '"/tasks/task-1"' in text
