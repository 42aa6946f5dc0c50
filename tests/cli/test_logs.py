"""How log lines look."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest

from herdmaster.cli.logs import JsonFormatter, TextFormatter, looks_like_json, looks_like_text, wants_colour


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, None)


def with_error() -> logging.LogRecord:
    with pytest.raises(ValueError, match="invalid") as caught:
        int("x")
    error = (caught.type, caught.value, caught.tb)
    return logging.LogRecord("shop", logging.ERROR, __file__, 1, "it failed", (), error)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_has_time_level_and_source() -> None:
    when, _, rest = (
        TextFormatter(colour=False).format(record("herdmaster.master", "%d joined", 3)).partition(" WARNING ")
    )
    assert rest == "master: 3 joined"
    assert len(when) == len("2026-03-01 12:00:00.123")
    datetime.fromisoformat(when)


def test_text_keeps_the_names_of_other_loggers_and_leaves_out_our_own() -> None:
    formatter = TextFormatter(colour=False)
    assert formatter.format(record("shop.tasks", "hello")).endswith(" WARNING shop.tasks: hello")
    assert formatter.format(record("herdmaster", "worker: hello")).endswith(" WARNING worker: hello")


def test_text_shows_a_traceback_after_its_line() -> None:
    lines = TextFormatter(colour=False).format(with_error()).splitlines()
    assert lines[0].endswith("ERROR shop: it failed")
    assert lines[-1] == "  ValueError: invalid literal for int() with base 10: 'x'"


@pytest.mark.parametrize("colour", [False, True])
def test_text_from_outside_neither_steers_a_terminal_nor_looks_like_another_line(colour: bool) -> None:
    forged = "2026-03-01 12:00:00.123 ERROR master: elected"
    message = f"hello\x1b[2J\n{forged}\r{forged}\x85{forged}\u2028{forged}\x9b31m\x1b]0;title\x07"
    hostile = record("shop", "%s", message)
    hostile.exc_text = f"ValueError: {message}"
    shown = TextFormatter(colour=colour).format(hostile).replace("\x1b[33mWARNING\x1b[0m", "WARNING")

    assert [line for line in shown.splitlines() if not line.startswith("  ")] == shown.splitlines()[:1]
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert f"\n  {forged}\\r{forged}\\x85" in shown


def test_the_level_is_coloured_where_that_is_wanted() -> None:
    assert "\x1b[33mWARNING\x1b[0m" in TextFormatter(colour=True).format(record("shop", "hello"))


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record("herdmaster.master", "two\nlines and %s", "\u2028ü"))
    assert "\n" not in line
    found = json.loads(line)
    assert {key: found[key] for key in found.keys() - {"time"}} == {
        "level": "warning",
        "logger": "herdmaster.master",
        "message": "two\nlines and \u2028ü",
    }
    assert datetime.fromisoformat(found["time"]).utcoffset() is not None


def test_json_carries_a_traceback() -> None:
    line = JsonFormatter().format(with_error())
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: invalid literal for int() with base 10: 'x'")


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_on_terminals_and_not_against_no_color(
    stream: io.StringIO, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(stream) is wanted


AFTER_THE_COMMAND = """
import logging, logging.config, threading

import click

from herdmaster.cli.logs import configure_role_logs

present = logging.config.dictConfigClass
threads = []


class Noting(logging.Handler):
    def emit(self, record):
        threads.append(threading.current_thread().name)


logging.getLogger("herdmaster.worker").addHandler(Noting())
with click.Context(click.Command("worker")):
    configure_role_logs("info", "text")
    logging.getLogger("herdmaster.worker").warning("in the command")
logging.getLogger("herdmaster.worker").warning("after it")
print(threads, logging.config.dictConfigClass is present)
"""


def test_after_a_command_its_process_logs_as_before() -> None:
    """As a test does that invokes a command in its own process."""
    done = subprocess.run([sys.executable, "-c", AFTER_THE_COMMAND], capture_output=True, text=True, check=True)
    assert done.stdout == "['herdmaster-log', 'MainThread'] True\n"


@pytest.mark.parametrize(
    ("line", "in_text", "in_json"),
    [
        ("2026-03-01 12:00:00.123 ERROR master: forged", True, False),
        ('{"time": "2026-03-01", "logger": "herdmaster.master", "message": "forged"}', False, True),
        (' {"l\\u006fgger": "herdmaster", "message": "forged"}', False, True),
        ("<3>forged", True, True),
        ("2026-03-01 12:00:00,123 INFO of the app", False, False),
        ('{"time": "2026-03-01", "logger": "shop", "message": "of the app"}', False, False),
        ('{"logger": ', False, False),
        ("[" * 10_000, False, False),
        ("{" + '"a":{' * 10_000, False, False),
        ("", False, False),
    ],
)
def test_lines_that_could_be_ours_are_known(line: str, in_text: bool, in_json: bool) -> None:
    assert (looks_like_text(line), looks_like_json(line)) == (in_text, in_json)
