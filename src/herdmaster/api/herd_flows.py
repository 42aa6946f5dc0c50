"""The flows of a Herd."""

from __future__ import annotations

from typing import Unpack, cast

from herdmaster.api.flow import Flow
from herdmaster.api.flow_future import FlowFuture
from herdmaster.api.flow_options import FlowOptions, check_flow
from herdmaster.api.flow_results import FlowReader
from herdmaster.api.herd_core import HerdCore
from herdmaster.core.names import parse_flow_name
from herdmaster.errors import InvalidName


class HerdFlows:
    """The part of `Herd` that is about flows."""

    _core: HerdCore

    def flow(self, name: str, **options: Unpack[FlowOptions]) -> Flow:
        """Begin a flow: `with herd.flow("report", timeout=3600) as flow:`, and in the block `fn.step(...)` adds steps.
        `name` is for people; several flows may have the same. `FlowOptions` lists the options.

        Raises ConfigurationError for a name or options that cannot work, TypeError for an unknown option.
        """
        return Flow(self._core, check_flow(name, options))

    def flow_run(self, name: str) -> FlowFuture[object]:
        """Return the future of a flow that was submitted elsewhere or earlier; `name` is what `run.name` gave, such as
        flow-01h... Its result raises OutcomeGone if there is no such flow. Raises InvalidName."""
        if not is_flow(name):
            raise InvalidName(f"{name!r} is no flow's name: it is what `run.name` gave, such as flow-01h...")
        return attach_flow(self._core, name)


def is_flow(name: object) -> bool:
    """Say whether this is the name of a flow."""
    return isinstance(name, str) and parse_flow_name(name) is not None


def attach_flow(core: HerdCore, name: str) -> FlowFuture[object]:
    """Return the future of a flow by its name."""
    registry = core.registry
    reader = FlowReader(codecs=registry.codecs, known=registry.exceptions)
    return cast("FlowFuture[object]", core.started().attach(name, core, reader, FlowFuture))
