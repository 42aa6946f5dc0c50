"""Decides whether this process makes spans; `herdmaster.spans` makes them. Imports nothing of OpenTelemetry itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from herdmaster.spans import Spans


def find_spans(*, are_children: bool = False) -> Spans | None:
    """Return what makes spans if this program has set a provider of OpenTelemetry, else None.

    A program calls this once, and not for each task. `are_children`: the span of an attempt is a child of the span that
    submitted the task, in place of one with a link to it.
    """
    if "opentelemetry.trace" not in sys.modules:  # so nothing has set a provider, and there is no reason to import it
        return None
    from herdmaster.spans import make_spans  # noqa: PLC0415 - it imports OpenTelemetry

    return make_spans(are_children=are_children)
