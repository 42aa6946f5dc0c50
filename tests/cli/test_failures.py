"""Which errors of a command become one line, and which keep their traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from herdmaster.cli.failures import Failed, errors_in_one_line


@pytest.fixture
def context() -> click.Context:
    return click.Context(click.Command("herd"), info_name="herd")


def _print_to_a_full_disk() -> None:
    with Path("/dev/full").open("w") as stream:
        try:
            click.echo("text", file=stream)
        finally:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # closing it must not raise again


def _print_to_a_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        try:
            click.echo("text", file=stream)
        finally:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_to_a_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        os.write(writing, b"text")
    finally:
        os.close(writing)


def _fail_with(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_output_that_cannot_be_written_is_one_line(context: click.Context) -> None:
    told = "the output cannot be written: No space left on device"
    with pytest.raises(Failed, match=told), errors_in_one_line(context):
        _print_to_a_full_disk()


def test_output_without_a_reader_ends_the_command_as_sigpipe_does(context: click.Context) -> None:
    with pytest.raises(click.exceptions.Exit) as caught, errors_in_one_line(context):
        _print_to_a_closed_pipe()
    assert caught.value.exit_code == 141


@pytest.mark.parametrize(
    "fail",
    [_fail_with(errno.EBADF), _fail_with(errno.EIO), _fail_with(errno.ENOSPC), _write_to_a_closed_pipe],
    ids=["EBADF", "EIO", "ENOSPC", "EPIPE"],
)
def test_an_error_of_another_file_keeps_its_traceback(context: click.Context, fail: Callable[[], None]) -> None:
    with pytest.raises(OSError), errors_in_one_line(context):  # noqa: PT011 - the number is a parameter
        fail()
