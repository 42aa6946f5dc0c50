"""The tasks that clients have announced, and the job behind each of them."""

from __future__ import annotations

import msgspec

from herdmaster.simulation.plan.jobs import Job


class TaskIndex:
    """Maps tasks to jobs and back. Tasks of reference clients are not in it: the server names them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        """The job of each task."""
        self.submitted_ms: dict[str, int] = {}
        """When each task was submitted, by the servers' clock."""
        self.handed_over: set[str] = set()
        """Tasks that another thread sends, which takes as long as the process is paused meanwhile."""
        self._names: dict[int, list[str]] = {}

    def names_of(self, index: int) -> list[str]:
        """Return the tasks that a job became: one, and one more for each replay."""
        return self._names.get(index, [])

    def announced(self, task: str, job: Job, now_ms: int, *, at_once: bool = True) -> None:
        self.jobs[task] = job
        if not at_once:
            self.handed_over.add(task)
        self.submitted_ms[task] = now_ms
        self._names.setdefault(job.index, []).append(task)

    def replayed(self, task: str, new_task: str, *, has_key: bool) -> None:
        """Note that a dead task was submitted again under a new name, with its key or without."""
        job = self.jobs.get(task)
        if job is not None:
            self.jobs[new_task] = msgspec.structs.replace(job, key=job.key if has_key else None, expires=None)
            self._names[job.index].append(new_task)
