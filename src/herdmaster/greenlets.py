"""Refuses to run on threads and sockets that gevent or eventlet has replaced.

A Herd's session lives in an event loop on a thread of its own, and a worker's in one beside the threads of its tasks.
On greenlets such a loop waits for ever, or holds up all others: it is better to say so at the first use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from herdmaster.errors import ConfigurationError

_PATCHERS: Final = (
    ("gevent", "gevent.monkey", "is_module_patched", ("threading", "socket"), "monkey.patch_all"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", ("thread", "socket"), "eventlet.monkey_patch"),
)
"""Each with the function that says which of the modules it has replaced, and the one that replaces them."""


def refuse_patched() -> None:
    """Raises ConfigurationError. Looks at what the program has loaded, and loads nothing."""
    for name, patcher, asking, modules, patching in _PATCHERS:
        is_patched: Callable[[str], bool] | None = getattr(sys.modules.get(patcher), asking, None)
        patched = [] if is_patched is None else [module for module in modules if is_patched(module)]
        if patched:
            raise ConfigurationError(
                f"{name} has replaced {' and '.join(patched)} in this process, and Herdmaster cannot run on greenlets: "
                f"leave them alone, as in {patching}(thread=False, socket=False, select=False), or use Herdmaster in a "
                "process that is not patched, such as one of gunicorn's gthread workers"
            )
