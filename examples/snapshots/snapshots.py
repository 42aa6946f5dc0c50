"""Archives a folder at each tick of a schedule, and deletes old archives every night.

SNAPSHOTS_OF=FOLDER SNAPSHOTS_IN=FOLDER herd worker --app snapshots  (in this folder)
herd schedules apply --app snapshots                                (in this folder)
"""

from __future__ import annotations

import os
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from herdmaster import Cron, Herd, current_task

herd = Herd()  # $HERD_ZOOKEEPER, else 127.0.0.1:2181

FORMAT = "%Y%m%dT%H%M%SZ"


def archives() -> Path:
    folder = Path(os.environ["SNAPSHOTS_IN"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@herd.task(max_attempts=3)
def snapshot() -> str:
    """Archive the folder as it is now, under the time of the tick. Return the file's name."""
    task = current_task()
    at = task.scheduled_for or datetime.now(UTC)
    source, target = Path(os.environ["SNAPSHOTS_OF"]), archives() / f"{at.astimezone(UTC):{FORMAT}}.tar.gz"
    partial = target.with_suffix(f".{task.name}")  # renamed when it is whole
    with tarfile.open(partial, "w:gz") as archive:
        archive.add(source, arcname=source.name)
    partial.rename(target)
    return target.name


@herd.task(schedule=Cron("30 2 * * *", timezone="Europe/Berlin"))
def delete_old() -> list[str]:
    """Delete the archives that are older than 30 days. Return their names."""
    limit = datetime.now(UTC) - timedelta(days=30)
    old = [path for path in archives().glob("*.tar.gz") if made_at(path) < limit]
    for path in old:
        path.unlink()
    return sorted(path.name for path in old)


def made_at(archive: Path) -> datetime:
    return datetime.strptime(archive.name.removesuffix(".tar.gz"), FORMAT).replace(tzinfo=UTC)


herd.schedule("snapshot", snapshot, every=timedelta(seconds=2), overlap="skip", missed="latest")
