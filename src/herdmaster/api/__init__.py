"""The interface for programs: `Herd`, its tasks and their futures."""

from herdmaster.api.errors import HerdClosed
from herdmaster.api.executor import HerdExecutor
from herdmaster.api.flow import Flow
from herdmaster.api.flow_future import FlowFuture
from herdmaster.api.flow_options import FlowOptions
from herdmaster.api.future import Future
from herdmaster.api.herd import Herd
from herdmaster.api.map import Results
from herdmaster.api.options import Options
from herdmaster.api.task import AsyncTask, Task

__all__ = [
    "AsyncTask",
    "Flow",
    "FlowFuture",
    "FlowOptions",
    "Future",
    "Herd",
    "HerdClosed",
    "HerdExecutor",
    "Options",
    "Results",
    "Task",
]
