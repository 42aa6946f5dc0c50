"""What a worker shows of the tasks that it runs."""

from __future__ import annotations

from herdmaster.core.progress import MAX_SHOWN, TaskProgress, WorkerProgress, decode_progress, encode_progress


def test_what_a_record_leaves_out_is_what_a_plain_task_has() -> None:
    found = decode_progress(b'{"running":1,"tasks":[{"task":"task-1","since":5}]}')

    (task,) = found.tasks
    assert (found.running, found.stalled) == (1, False)
    assert (task.task, task.since, task.attempt) == ("task-1", 5, 1)
    assert (task.call, task.done, task.total, task.note) == (None, None, None, "")
    assert task.waits_for == ()
    assert task.alone is False


def test_the_tasks_that_have_run_longest_are_shown_first_and_all_are_counted() -> None:
    tasks = [TaskProgress(f"task-{number:03}", 1_000 - number) for number in range(MAX_SHOWN + 5)]
    found = decode_progress(encode_progress(tasks, stalled=True))

    assert (found.running, found.stalled) == (MAX_SHOWN + 5, True)
    assert [task.since for task in found.tasks] == sorted(task.since for task in tasks)[:MAX_SHOWN]
    assert decode_progress(encode_progress([])) == WorkerProgress(0)
