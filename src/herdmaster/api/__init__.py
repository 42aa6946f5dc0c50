"""What users write against: `Herd`, its tasks and their futures."""

from herdmaster.api.app import Herd
from herdmaster.api.future import Future
from herdmaster.api.task import Task

__all__ = ["Future", "Herd", "Task"]
