"""Submits a call by its name without waiting for its acceptance, which no public method does."""

from __future__ import annotations

from typing import Any, Unpack

from herdmaster import Future, Herd, Options
from herdmaster.api.internals import core_of
from herdmaster.api.options import TaskOptions


def begin_call(herd: Herd, call: str, *args: object, **options: Unpack[Options]) -> Future[Any]:
    """An error of the submission becomes the future's."""
    core = core_of(herd)
    return core.begin_task(core.registry.callee(call), args, {}, TaskOptions().changed(options))
