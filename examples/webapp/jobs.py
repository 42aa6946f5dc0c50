"""The work of the web service, apart from the service: workers import this module, and need no web server.

herd worker --app jobs   (in this folder)
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from herdmaster import Herd, current_task

herd = Herd()  # $HERD_ZOOKEEPER, else 127.0.0.1:2181


@herd.task(soft_timeout=600)
def checksum(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder; says how far it is."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {}
    for done, path in enumerate(files):
        current_task().progress(done, len(files), path.name)
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
