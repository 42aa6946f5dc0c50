"""What keeps the tasks of one queue from being assigned. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from herdmaster.core.members import DRAINED, DRAINING
from herdmaster.core.progress import TaskProgress, WorkerProgress
from herdmaster.core.queues import UNLIMITED, QueueSettings
from herdmaster.inspection.finding import Finding, critical, note, span, warning
from herdmaster.inspection.overview import MasterSeen, WorkerSeen

_SHOWN: Final = 3
"""Calls that are shown of those that take all slots, and workers of those that keep slots empty."""

Serving = tuple[WorkerSeen, WorkerProgress]


class QueueView(msgspec.Struct, frozen=True):
    """A queue with waiting tasks. `serving` are the workers alive that serve it, with what each reports as running.
    `assigned` counts the tasks of the queue in inboxes, `has_calls` says whether a call waits, `has_steps` whether a
    step of a flow does. `now` is in unix milliseconds."""

    queue: str
    now: int
    primary: MasterSeen | None = None
    settings: QueueSettings = UNLIMITED
    assigned: int = 0
    serving: tuple[Serving, ...] = ()
    has_calls: bool = True
    has_steps: bool = False


def queue_findings(view: QueueView) -> Iterator[Finding]:
    """Yield what keeps tasks of the queue from being assigned, apart from the lack of a primary."""
    queue, settings = view.queue, view.settings
    if settings.paused:
        yield warning("paused", f"queue {queue} is paused", f"`herd queues resume {queue}` resumes it")
    elif settings.max_running is not None and view.assigned >= settings.max_running:
        yield warning(
            "limited",
            f"queue {queue} is limited to {settings.max_running} running tasks, and {view.assigned} are with workers",
            f"wait, or `herd queues limit {queue} --max-running N`",
        )
    elif settings != UNLIMITED:
        yield note("limited", f"queue {queue} is limited", "see `herd queues`")
    found = _worker_finding(view)
    if found is not None:
        yield found
    else:
        ready = [each for each in view.serving if each[0].state not in (DRAINING, DRAINED)]
        yield from slot_findings(f"queue {queue}", ready, view.now)


def _worker_finding(view: QueueView) -> Finding | None:
    queue, workers = view.queue, [worker for worker, _ in view.serving]
    if not workers:
        return critical("no-worker", f"no worker serves queue {queue}", f"`herd worker --queue {queue}` starts one")
    if all(worker.state in (DRAINING, DRAINED) for worker in workers):
        return critical(
            "draining",
            f"all workers that serve queue {queue} are draining",
            "`herd workers resume WORKER`, or start one",
        )
    if view.has_calls and not any(worker.calls for worker in workers):
        return _no_calls(queue, sorted({worker.app for worker in workers if worker.app is not None}))
    if view.has_steps and not any(worker.calls and worker.flows for worker in workers):
        return critical(
            "no-flows",
            f"no worker that serves queue {queue} knows flows",
            "install this version on its workers, and start them anew",
        )
    return None


def _no_calls(queue: str, apps: Sequence[str]) -> Finding:
    if not apps:
        return critical(
            "no-app",
            f"no worker that serves queue {queue} has an app",
            "`herd worker --app MODULE` gives it one",
        )
    return critical(
        "no-app",
        f"no worker that serves queue {queue} has a task",
        f"its app ({', '.join(apps)}) registers none; `herd worker --import MODULE` imports a module that does",
    )


def slot_findings(what: str, ready: Sequence[Serving], now: int) -> Iterator[Finding]:
    """Yield what takes the slots of workers that get tasks. `what` the slots are for, `now` in unix milliseconds."""
    isolated = [each for each in ready if _alone(each[1]) is not None]
    for worker, progress in isolated[:_SHOWN]:
        yield _isolated(worker, progress, now)
    if len(isolated) > _SHOWN:
        yield warning("isolated", f"{len(isolated) - _SHOWN} more workers keep slots empty", "see `herd workers`")
    if all(progress.stalled for _, progress in ready):
        yield critical("stalled", f"every slot for {what} has a task that waits for other tasks", "see `herd workers`")
    elif all(_is_full(*each) for each in ready) and len(isolated) < len(ready):
        yield _no_slots(what, ready, now)


def _alone(progress: WorkerProgress) -> TaskProgress | None:
    """Return the task beside which the worker begins no other."""
    return next((task for task in progress.tasks if task.alone), None)


def _is_full(worker: WorkerSeen, progress: WorkerProgress) -> bool:
    return _alone(progress) is not None or (worker.slots is not None and progress.running >= worker.slots)


def _isolated(worker: WorkerSeen, progress: WorkerProgress, now: int) -> Finding:
    task = _alone(progress)
    assert task is not None
    return warning(
        "isolated",
        f"{worker.name} begins nothing ({progress.running} of {worker.slots or '?'} slots taken) beside {task.task} "
        f"of {task.call or 'raw tasks'}, which has run alone for {span(now - task.since)}, because workers were lost "
        "with it",
        f"wait, start workers, or `herd tasks cancel {task.task}`",
    )


def _no_slots(what: str, ready: Sequence[Serving], now: int) -> Finding:
    slots = sum(worker.slots or 0 for worker, _ in ready)
    by_call: dict[str, list[TaskProgress]] = {}
    for _, progress in ready:
        for task in progress.tasks:
            by_call.setdefault(task.call or "raw tasks", []).append(task)
    most = sorted(by_call.items(), key=lambda item: (-len(item[1]), item[0]))
    shown = ", ".join(_taken_by(call, tasks, now) for call, tasks in most[:_SHOWN])
    more = f" and {len(most) - _SHOWN} other calls" if len(most) > _SHOWN else ""
    which = "1 slot" if slots == 1 else f"{slots} slots"
    return warning(
        "slots-full",
        f"all slots are taken ({which} for {what}), by {shown or 'tasks that are not reported yet'}{more}",
        "wait, start workers, or `herd tasks cancel` one",
    )


def _taken_by(call: str, tasks: Sequence[TaskProgress], now: int) -> str:
    oldest = min(tasks, key=lambda task: task.since)
    return f"{len(tasks)} of {call} (the longest for {span(now - oldest.since)}: {oldest.task})"
