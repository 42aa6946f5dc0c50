"""The task that `herd submit` names, as its app registers it."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from herdmaster.api import Task
from herdmaster.api.app_loader import import_from_here
from herdmaster.api.internals import core_of
from herdmaster.cli.failures import Failed, Refused
from herdmaster.cli.named_app import load_named_app
from herdmaster.core.modules import is_absence_of, place_of

if TYPE_CHECKING:
    from types import ModuleType

    from herdmaster.api import Herd

_MAX_NAMED: Final = 10


def find_task(call: str, app: str | None) -> Task[..., object]:
    """Return the task that MODULE:FUNCTION names, from MODULE, or from the app if one is given.

    What the modules print goes to stderr, because stdout is for the name of the submitted task. Raises Refused if there
    is no such task, Failed if a module fails while it is imported, and what `load_named_app` raises.
    """
    with contextlib.redirect_stdout(sys.stderr):
        herd = None if app is None else load_named_app(app)
        module = _import_module(call, herd)
    found: object = module
    for part in call.partition(":")[2].split("."):
        found = getattr(found, part, None)
    if isinstance(found, Task) and (herd is None or found.call in core_of(herd).registry.functions):
        return found
    raise Refused(_explain_absence(call, module, app, herd))


def _import_module(call: str, herd: Herd | None) -> ModuleType | None:
    """Return the module of the call; None if there is none, but an app that may explain why."""
    name = call.partition(":")[0]
    import_from_here()
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a module may raise anything while it is imported, also SystemExit
        if not is_absence_of(name, error):
            reason = "it calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
            raise Failed(
                f"{name} cannot be imported ({reason}){place_of(error)}: --unchecked submits without the import"
            ) from None
        if herd is not None:
            return None
    raise Refused(
        f"no module {name!r} is importable from here: run this in the folder that holds it, or submit with "
        "--unchecked, which imports nothing"
    )


def _explain_absence(call: str, module: ModuleType | None, app: str | None, herd: Herd | None) -> str:
    if herd is not None:
        place, known = f"app {app}", set(core_of(herd).registry.functions)
    else:
        values = vars(module).values() if module is not None else ()
        place, known = f"module {call.partition(':')[0]}", {value.call for value in values if isinstance(value, Task)}
    advice = "--unchecked submits it for a worker that runs unregistered functions (--allow-import)"
    if call in known:
        return f"{call} is registered, but its options cannot be read here: give them as options, with --unchecked"
    if not known:
        return f"{place} has no task {call}, nor any other; {advice}"
    return f"{place} has no task {call}{_closest(call, known)}: it has {_list(known)}; {advice}"


def _closest(call: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(call, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _list(known: Iterable[str]) -> str:
    names = sorted(known)
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(names[:_MAX_NAMED])}{more}"
