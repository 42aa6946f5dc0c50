"""The app configures logging for itself, and Herdmaster's lines come all the same."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herdmaster.api import Future, Herd
from tests.cli.processes import HerdProcess, wait_until
from tests.cli.test_roles import look

pytestmark = pytest.mark.long

SCRIPT = """
import json, logging, logging.config, sys

from herdmaster.cli.logs import configure_role_logs, restore_role_logs

case = json.loads(sys.argv[1])
worker = logging.getLogger("herdmaster.worker")
others = logging.getLogger("others")
configure_role_logs("info", "text")
if case.pop("how", "") == "removes":
    logging.root.handlers.clear()
    logging.root.setLevel("ERROR")
    worker.disabled = True
    restore_role_logs()
elif case:
    logging.config.dictConfig({"version": 1, **case})
worker.debug("debug line")
worker.info("info line")
worker.warning("warning line")
others.warning("line of others")
"""

# Django's `DEFAULT_LOGGING`, with filters and a formatter that need no Django.
DJANGO = {
    "disable_existing_loggers": False,
    "filters": {
        "require_debug_false": {"()": "logging.Filter", "name": "nothing"},
        "require_debug_true": {"()": "logging.Filter"},
    },
    "formatters": {"django.server": {"()": "logging.Formatter", "format": "[{asctime}] {message}", "style": "{"}},
    "handlers": {
        "console": {"level": "INFO", "filters": ["require_debug_true"], "class": "logging.StreamHandler"},
        "django.server": {"level": "INFO", "class": "logging.StreamHandler", "formatter": "django.server"},
        "mail_admins": {"level": "ERROR", "filters": ["require_debug_false"], "class": "logging.NullHandler"},
    },
    "loggers": {
        "django": {"handlers": ["console", "mail_admins"], "level": "INFO"},
        "django.server": {"handlers": ["django.server"], "level": "INFO", "propagate": False},
    },
}
OURS = ["INFO worker: info line", "WARNING worker: warning line"]

CONSOLE = {"console": {"class": "logging.StreamHandler", "formatter": "own"}}
OWN = {"formatters": {"own": {"format": "OWN %(message)s"}}, "handlers": CONSOLE}


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        ({}, ["INFO worker: info line", "WARNING worker: warning line", "WARNING others: line of others"]),
        (DJANGO, [*OURS, "WARNING others: line of others"]),
        # As with a `LOGGING` of Django without a root: the handlers of the root stay.
        (
            {**OWN, "loggers": {"django": {"handlers": ["console"]}}},
            ["INFO worker: info line", "WARNING worker: warning line"],
        ),
        # With a root: lines look as the app wants them.
        ({**OWN, "root": {"level": "INFO", "handlers": ["console"]}}, ["OWN info line", "OWN warning line"]),
        ({**OWN, "root": {"level": "WARNING", "handlers": ["console"]}}, ["OWN info line", "OWN warning line"]),
        ({"root": {"level": "WARNING", "handlers": []}}, ["INFO worker: info line", "WARNING worker: warning line"]),
        ({"how": "removes"}, ["INFO worker: info line", "WARNING worker: warning line"]),
        # What is about `herdmaster` holds.
        ({**OWN, "loggers": {"herdmaster": {"level": "WARNING"}}}, ["WARNING worker: warning line"]),
        (
            {**OWN, "loggers": {"herdmaster": {"level": "DEBUG", "handlers": ["console"], "propagate": False}}},
            ["OWN debug line", "OWN info line", "OWN warning line"],
        ),
        (
            {
                "handlers": {"none": {"class": "logging.NullHandler"}},
                "loggers": {"herdmaster": {"handlers": ["none"], "propagate": False}},
            },
            [],
        ),
    ],
)
def test_what_the_app_configures_silences_our_lines_only_if_it_is_about_them(
    case: dict[str, object], lines: list[str]
) -> None:
    command = [sys.executable, "-c", SCRIPT, json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=True)
    found = [re.sub(r"^[-0-9]+ [:.0-9]+ ", "", line) for line in done.stderr.splitlines()]
    assert sorted(found) == sorted(lines)
    assert done.stdout == ""


APP = """
import logging.config

from herdmaster import Herd

LOGGING = {
    "version": 1,  # which disables the loggers that are there, unless it is told otherwise
    "formatters": {"own": {"format": "OWN %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
}
logging.config.dictConfig(LOGGING)
herd = Herd()


@herd.task
def configure() -> None:
    from django_like import setup

    setup(LOGGING)


@herd.task
def fail() -> None:
    raise ValueError("so it is")
"""

LIBRARY = """
from logging.config import dictConfig as setup
"""


def test_a_worker_logs_on_while_its_app_and_its_tasks_configure_logging(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "django_like.py").write_text(LIBRARY)
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app=app", folder=tmp_path) as worker,
        Herd(namespace) as herd,
    ):
        worker.wait_for_log("is ready")
        configured: Future[None] = herd.submit_call("app:configure")
        assert configured.result(timeout=60) is None
        failing: Future[None] = herd.submit_call("app:fail")
        assert isinstance(failing.exception(timeout=60), ValueError)
        worker.wait_for_log("ValueError: so it is")
        worker.send(signal.SIGTERM)
        worker.wait_for_log("has drained")
        assert worker.wait() == 0


POOLS_APP = """
import logging

from herdmaster import Herd, current_task

herd = Herd()
log = logging.getLogger("shop")


@herd.task(max_attempts=2, backoff=0)
def on_thread():
    log.info("on a thread")
    if current_task().attempt == 1:
        raise ValueError("again")


@herd.task
async def in_loop():
    log.info("in the loop")


@herd.task(pool="process")
def in_process():
    log.info("in a process")
    raise ValueError("for good")
"""


def test_lines_of_a_task_carry_its_fields_in_all_three_pools(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(POOLS_APP)
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app=app", "--log-format=json", folder=tmp_path) as worker,
        Herd(namespace) as herd,
    ):
        calls = [f"app:{name}" for name in ("on_thread", "in_loop", "in_process")]
        futures: list[Future[None]] = [herd.submit_call(call) for call in calls]
        for future in futures:
            future.exception(timeout=60)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        lines = [json.loads(line) for line in worker.stderr.splitlines()]
    told = [(line["logger"], line["level"], line["call"], line["attempt"]) for line in lines if "call" in line]
    assert sorted(told) == sorted(
        [
            ("shop", "info", "app:on_thread", 1),
            ("herdmaster.worker", "warning", "app:on_thread", 1),
            ("shop", "info", "app:on_thread", 2),
            ("herdmaster.worker", "info", "app:on_thread", 2),
            ("shop", "info", "app:in_loop", 1),
            ("herdmaster.worker", "info", "app:in_loop", 1),
            ("shop", "info", "app:in_process", 1),
            ("herdmaster.worker", "error", "app:in_process", 1),
        ]
    )
    assert {line["task"] for line in lines if "call" in line} == {future.name for future in futures}
    assert [line["exception"].splitlines()[-1] for line in lines if "exception" in line] == ["ValueError: for good"]


STUCK_APP = """
import logging, logging.config, pathlib, time

from herdmaster import Herd


class Handler(logging.Handler):
    def emit(self, record):
        while pathlib.Path("stuck").exists():
            time.sleep(0.05)


logging.config.dictConfig({
    "version": 1,
    "handlers": {"stuck": {"()": Handler}},
    "root": {"level": "INFO", "handlers": ["stuck"]},
})
herd = Herd()


@herd.task
def fail():
    raise ValueError


@herd.task(pool="process")
def speak():
    print("said")
    return "spoke"
"""


def test_a_handler_of_the_app_that_blocks_holds_up_neither_session_nor_tasks_nor_the_end(
    namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(STUCK_APP)
    (tmp_path / "stuck").touch()
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app=app", "--session-timeout=2", folder=tmp_path) as worker,
        Herd(namespace) as herd,
    ):
        (registered,) = wait_until(lambda: look(namespace).workers or None, "no worker")
        failing: list[Future[None]] = [herd.submit_call("app:fail") for _ in range(5)]
        assert {type(future.exception(timeout=60)) for future in failing} == {ValueError}
        speaking: Future[str] = herd.submit_call("app:speak")
        assert speaking.result(timeout=60) == "spoke"
        time.sleep(3.0)  # longer than the session lives without a heartbeat
        assert [each.name for each in look(namespace).workers] == [registered.name]
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


RAISING_APP = """
import logging, sys

from herdmaster import Herd


class Handler(logging.Handler):
    def emit(self, record):
        if "is ready" in record.getMessage():
            raise RuntimeError("no route to the log server")
        if "ValueError" in record.getMessage():
            sys.exit(3)


logging.getLogger("herdmaster").addHandler(Handler())
herd = Herd()


@herd.task
def fail():
    raise ValueError


@herd.task
def close():
    sys.stdout.close()
    sys.stderr = None
"""


def test_a_handler_of_the_app_that_raises_ends_no_logging_and_closed_streams_change_no_exit_code(
    namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(RAISING_APP)
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app=app", folder=tmp_path) as worker,
        Herd(namespace) as herd,
    ):
        worker.wait_for_log("is ready: ")
        worker.wait_for_log("(a log handler raised RuntimeError('no route to the log server'))")
        failing: Future[None] = herd.submit_call("app:fail")
        assert isinstance(failing.exception(timeout=60), ValueError)
        worker.wait_for_log("(a log handler raised SystemExit(3))")
        closing: Future[None] = herd.submit_call("app:close")
        assert closing.result(timeout=60) is None
        worker.send(signal.SIGTERM)
        worker.wait_for_log("has drained")
        assert worker.wait() == 0
