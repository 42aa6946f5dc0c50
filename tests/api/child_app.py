"""An app whose tasks have children, in each pool."""

from __future__ import annotations

from pathlib import Path

from herdmaster import Herd, current_task

herd = Herd("no-such-host.example:2181")

UNSERVED = "unserved"
"""A queue that no worker serves."""


@herd.task
def never() -> None:
    """Does not run, because of its queue."""


child = never.options(queue=UNSERVED, child=True, keep_outcome=600)
"""Kept, because the task itself waits for it, too, and may read the outcome first."""


@herd.task(keep_outcome=600)
def have_children(folder: Path, then: str) -> str:
    first = child.submit()
    others = herd.submit_many(child, [(), ()])
    _note(folder, first.name, *(each.name for each in others))
    if then == "fail":
        raise LookupError("it broke")
    if then == "wait":
        first.result()
    return current_task().name


@herd.task(keep_outcome=600)
async def have_children_async(folder: Path, then: str) -> str:
    first = await child.submit_async()
    others = await herd.submit_many_async(child, [(), ()])
    _note(folder, first.name, *(each.name for each in others))
    if then == "fail":
        raise LookupError("it broke")
    if then == "wait":
        await first
    return current_task().name


@herd.task(keep_outcome=600)
async def have_a_flow(folder: Path) -> None:
    with herd.flow("child", child=True, keep_outcome=600) as flow:
        never.options(queue=UNSERVED).step()
    run = await flow.submit_async()
    _note(folder, run.name)
    await run


def _note(folder: Path, *names: str) -> None:
    (folder / "new").write_text("\n".join(names))
    (folder / "new").rename(folder / "children")
