"""`herd schedules`, as an operator sees it. No master runs: what it does is tested with the primary."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from herdmaster.cli import schedule_changes
from herdmaster.cli.program import herd
from tests.cli.processes import HerdProcess, connect

APP = "tests.cli.scheduled_app"
PAST = ("--from", "2026-03-01", "--to", "2026-03-03")


@pytest.fixture
def at(namespace: str) -> tuple[str, str]:
    with connect(namespace) as zk:
        zk.ensure_path("/")
    return ("--zookeeper", namespace)


def run(*arguments: str) -> Result:
    """Run a command in this process, which is faster than a process of its own."""
    return CliRunner().invoke(herd, list(arguments))


@pytest.mark.long
def test_an_app_is_applied_and_then_unchanged(at: tuple[str, str]) -> None:
    apply = ("schedules", "apply", "--app", APP, *at)
    dry = run(*apply, "--dry-run")
    assert dry.stdout.split() == ["create", "nightly", "create", "warm-eu"]
    assert "nothing was done" in dry.stderr
    assert run("schedules", at[1]).stderr == "no schedules\n"
    assert run(*apply).stdout == dry.stdout
    assert run(*apply).stdout.split() == ["unchanged", "nightly", "unchanged", "warm-eu"]
    shown = json.loads(run(*apply, "--json").stdout)
    assert (shown["app"], shown["applied"], shown["unchanged"]) == (f"{APP}:herd", True, ["nightly", "warm-eu"])
    listed = run("schedules", at[1]).stdout
    assert "30 2 * * * (Europe/Berlin)" in listed
    assert f"every 1s  {APP}:warm" in listed


def test_a_schedule_without_a_primary_is_shown_as_due(at: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    run("schedules", "add", "often", f"{APP}:warm", "us", "--every", "1d", *at)
    assert " ago" not in run("schedules", at[1]).stdout
    now = time.time_ns() // 1_000_000
    monkeypatch.setattr("herdmaster.cli.schedules._now_ms", lambda: now + 2 * 86_400_000)
    assert re.search(r"due \d+h ago$", run("schedules", at[1]).stdout)


@pytest.mark.long
def test_a_schedule_is_added_edited_paused_run_and_removed_by_hand(at: tuple[str, str]) -> None:
    added = run("schedules", "add", "hourly", f"{APP}:warm", "us", "--cron", "@hourly", "--queue", "slow", *at)
    assert (added.exit_code, added.stdout) == (0, "hourly: added\n"), added.stderr
    again = run("schedules", "add", "hourly", f"{APP}:warm", "us", "--every", "5m", *at)
    assert again.exit_code == 1
    assert "there is a schedule 'hourly' already" in again.stderr
    edited = run("schedules", "edit", "hourly", "--timezone", "Europe/Berlin", "--jitter", "30s", *at)
    assert edited.stdout == "hourly: changed jitter, timezone\n", edited.stderr
    edited = run("schedules", "edit", "hourly", "--cron", "@daily", "--max-runs", "5", "--json", *at)
    assert edited.stdout == '{"schedule":"hourly","changed":["cron","max_runs"]}\n', edited.stderr
    cleared = run("schedules", "edit", "hourly", "--clear", "max-runs", "--clear", "starts", "--grace", "9s", *at)
    assert cleared.stdout == "hourly: changed grace, max_runs, starts\n", cleared.stderr
    given = ("de", "--queue", "fast", "--priority", "7", "--key", "warm")
    assert run("schedules", "edit", "hourly", *given, *at).stdout == "hourly: changed arguments, key, priority, queue\n"
    for wrong, told in {
        ("de", "at"): "arguments",
        ("--queue", "Bad Queue"): "'Bad Queue'",
        ("de", "--clear", "arguments"): "contradict each other",
        ("--delay", "5s"): "No such option",
    }.items():
        refused = run("schedules", "edit", "hourly", *wrong, *at)
        assert (refused.exit_code, told in refused.stderr) == (2, True), refused.stderr
    assert run("schedules", "pause", "hourly", *at).stdout == "hourly: paused\n"
    shown = json.loads(run("schedules", "show", "hourly", "--json", *at).stdout)
    assert shown["state"] == "paused"
    assert shown["schedule"]["timetable"] == {"type": "cron", "expression": "@daily", "timezone": "Europe/Berlin"}
    assert (shown["schedule"]["jitter_ms"], shown["schedule"]["queue"]) == (30_000, "fast")
    assert shown["schedule"]["payload"]["args"] == ["de"]
    assert shown["schedule"]["payload"]["unique"]["key"] == "warm"
    cleared = run("schedules", "edit", "hourly", "--clear", "queue", "--clear", "key", "--unchecked", *at)
    assert cleared.stdout == "hourly: changed key, queue\n", cleared.stderr
    assert "max_runs" not in shown["schedule"]
    assert run("schedules", "resume", "hourly", "--catch-up", *at).stdout == "hourly: resumed\n"
    task = run("schedules", "run", "hourly", *at).stdout.strip()
    assert f"{APP}:warm" in run("tasks", "show", task, *at).stdout
    refused = run("schedules", "remove", "hourly", *at)
    assert (refused.exit_code, "confirm with --yes" in refused.stderr) == (1, True)
    unasked = run("schedules", "remove", "other", *at)
    assert (unasked.exit_code, unasked.stdout, unasked.stderr) == (1, "other: does not exist\n", "")
    removed = run("schedules", "remove", "hourly", "other", "--yes", *at)
    assert (removed.exit_code, removed.stdout) == (1, "hourly: removed\nother: does not exist\n")


@pytest.mark.long
def test_a_clock_that_is_not_that_of_the_servers_is_told(at: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_changes, "_now_ms", lambda: time.time_ns() // 1_000_000 - 60_000)
    added = run("schedules", "add", "hourly", f"{APP}:warm", "us", "--cron", "@hourly", *at)
    assert added.exit_code == 0
    assert " s behind ZooKeeper's, which decides what is due" in added.stderr
    monkeypatch.undo()
    added = run("schedules", "add", "daily", f"{APP}:warm", "us", "--cron", "@daily", "--json", *at)
    assert (added.stdout, added.stderr) == ('{"schedule":"daily","added":true}\n', "")


@pytest.mark.long
def test_a_declared_schedule_that_is_never_due_is_told(
    at: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = 'herd.schedule("late", "shop:warm", every=5, ends=datetime(2020, 1, 1, tzinfo=UTC))'
    (tmp_path / "ended_app.py").write_text(
        f"from datetime import UTC, datetime\nfrom herdmaster import Herd\nherd = Herd()\n{declared}\n"
    )
    monkeypatch.chdir(tmp_path)
    applied = run("schedules", "apply", "--app", "ended_app", *at)
    assert (applied.stdout, "late is never due: its times have passed" in applied.stderr) == ("create     late\n", True)


@pytest.mark.long
def test_past_ticks_are_made_up_for(at: tuple[str, str]) -> None:
    run("schedules", "apply", "--app", APP, *at)
    refused = run("schedules", "backfill", "nightly", *PAST, *at)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "2 tasks would be made: confirm with --yes" in refused.stderr
    made = run("schedules", "backfill", "nightly", *PAST, "--yes", *at).stdout.split()
    assert len(made) == len(set(made)) == 2
    assert set(made) <= set(run("tasks", "list", *at).stdout.split())


@pytest.mark.long
def test_a_worker_warns_once_of_schedules_that_differ(at: tuple[str, str]) -> None:
    run("schedules", "apply", "--app", APP, *at)
    run("schedules", "edit", "warm-eu", "--every", "5m", *at)
    run("schedules", "remove", "nightly", "--yes", *at)
    with HerdProcess("master", at[1]), HerdProcess("worker", at[1], f"--app={APP}") as worker:
        line = worker.wait_for_log("differ from what it declares")
        assert "not stored nightly; different warm-eu (timetable)" in line
        assert f"`herd schedules apply --app {APP}:herd`" in line


@pytest.mark.long
def test_a_worker_warns_of_schedules_that_are_dropped_or_have_run_out(
    at: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*schedules: str) -> None:
        head = ("from datetime import UTC, datetime", "from herdmaster import Herd", "herd = Herd()")
        (tmp_path / "changing_app.py").write_text("\n".join((*head, *schedules)))

    write(
        'herd.schedule("old", "shop:warm", every=3600)',
        'herd.schedule("tide", "shop:warm", times=[datetime(2020, 1, 1, tzinfo=UTC)])',
    )
    monkeypatch.chdir(tmp_path)
    assert run("schedules", "apply", "--app", "changing_app", *at).stdout.split() == ["create", "old", "create", "tide"]
    write('herd.schedule("tide", "shop:warm", times=lambda: [datetime(2200, 1, 1, tzinfo=UTC)])')
    with HerdProcess("worker", at[1], "--app=changing_app", folder=tmp_path) as worker:
        line = worker.wait_for_log("differ from what it declares")
        assert "different tide (timetable); no longer declared old" in line
    write()
    with HerdProcess("worker", at[1], "--app=changing_app", folder=tmp_path) as worker:
        assert "no longer declared old, tide" in worker.wait_for_log("differ from what it declares")


@pytest.mark.long
def test_development_stores_the_schedules() -> None:
    with HerdProcess("dev", f"--app={APP}", "--port=0") as dev:
        dev.wait_for_log(f"schedules of {APP}:herd: created nightly, warm-eu")
        dev.wait_for_log(f"{APP}:warm done in")


def test_a_preview_shows_times_in_the_zone_and_in_utc() -> None:
    options = ("--cron", "30 2 1 7 *", "--timezone", "Europe/Berlin", "--count", "2")
    result = run("schedules", "preview", *options)
    assert result.exit_code == 0, result.output
    assert [line[5:] for line in result.stdout.splitlines()] == [
        f"07-01 02:30:00 CEST    {line[28:32]}-07-01 00:30:00 UTC" for line in result.stdout.splitlines()
    ]
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("preview", "--cron", "30 25 * * *"), "the field hour is wrong"),
        (("preview", "--cron", "@daily", "--timezone", "Mars"), "schedules: time zone 'Mars' is not known"),
        (("preview", "--cron", "@daily", "--timezone", ""), "time zone '' is not known"),
        (("preview", "--every", "0.1s"), "the shortest is 1 s"),
        (("preview", "--time", "tomorrow"), "'tomorrow' is not a time"),
        (("preview",), "give the NAME of a schedule, or one of --cron"),
        (("apply",), "--app names the app"),
        (("edit", "x"), "nothing to change"),
        (("edit", "x", "--jitter", "5s", "--clear", "jitter"), "--jitter and --clear jitter contradict each other"),
        (("edit", "x", "--clear", "cron"), "'cron' is not one of"),
        (("backfill", "x", "--from", "2026-02-01", "--to", "2026-01-01"), "--to is before --from"),
        (("add", "x", f"{APP}:warm", "eu"), "a schedule needs one of cron=, every= and times="),
        (("add", "x", f"{APP}:warm", "--every", "5m"), "misses `region`"),
        (("add", "x", f"{APP}:warm", "eu", "--time", "2020-01-01"), "'x' is never due: its times have passed"),
        (("add", "a/b", f"{APP}:warm", "eu", "--every", "5m"), "'a/b' is not the name of a schedule"),
    ],
)
def test_mistakes_are_explained(arguments: tuple[str, ...], says: str) -> None:
    result = run("schedules", *arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert says in result.stderr
