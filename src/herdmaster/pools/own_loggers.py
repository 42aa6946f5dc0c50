"""Restores Herdmaster's loggers after an app has configured logging."""

from __future__ import annotations

import logging
from collections.abc import Callable


def restore(level: int, make_handler: Callable[[], logging.Handler | None]) -> None:
    """Enable the loggers again, because `logging.config.dictConfig` disables each one that it does not name. Lines of
    `level` and above are logged unless the app has given `herdmaster` a level. `make_handler` is called if
    no handler is left for them; None adds none."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and f"{name}.".startswith("herdmaster."):
            logger.disabled = False
    ours = logging.getLogger("herdmaster")
    if ours.level == logging.NOTSET and ours.getEffectiveLevel() > level:
        ours.setLevel(level)
    if ours.propagate and not ours.hasHandlers():
        handler = make_handler()
        if handler is not None:
            ours.addHandler(handler)
