"""What a function was registered with, where its module can be imported here."""

from __future__ import annotations

import contextlib
import importlib
import sys

import click

from herdmaster.api import Task
from herdmaster.api.app_loader import import_from_here
from herdmaster.core.modules import is_absence_of, place_of


def find_registered(call: str) -> Task[..., object] | None:
    """The task that `MODULE:FUNCTION` names; None where its module is not here, or has no such task. What the
    module prints, and its error if it fails, goes to stderr: stdout is for the name of the task."""
    module_name, _, attribute = call.partition(":")
    import_from_here()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a module does when it is imported, also SystemExit
        if not is_absence_of(module_name, error):
            what = "it calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
            click.echo(
                f"{module_name} cannot be imported here ({what}){place_of(error)}: {call} is submitted without the "
                "options that it is registered with", err=True,
            )  # fmt: skip
        return None
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, Task) else None
