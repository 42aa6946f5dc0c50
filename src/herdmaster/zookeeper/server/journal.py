"""What makes the server durable: a log of transactions, and snapshots that replace its older part.

In the folder are `snapshot.ZXID` (the state after that transaction), `log.ZXID` (the transactions from that one on)
and `lock`. A block of a log holds the transactions of one fsync. On start the newest valid snapshot is loaded and the
logs are replayed; every transaction must follow the one before it. A snapshot gets its name only when the log that goes
on behind it is on disk, the first one too: so where that log is missing, it was taken away.

A last block that is not whole was never acknowledged, so it is cut off, with a warning, for a damaged block at the end
looks the same. Anything else that is damaged, the journal refuses to interpret: it names the file and the offset, and
starting is up to a human with a backup.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from herdmaster.zookeeper.errors import ZooKeeperError
from herdmaster.zookeeper.server.blocks import HEADER_LENGTH, SALT_LENGTH, Fault, block, header, read_blocks, seed_of
from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.snapshots import (
    UNFINISHED,
    Snapshot,
    read_snapshot,
    restore,
    snapshot_of,
    write_snapshot,
)
from herdmaster.zookeeper.server.state import ReplayGap, State

_LOG: Final = "log."
_SNAPSHOT: Final = "snapshot."
_HEX_DIGITS: Final = 16

_logger = logging.getLogger(__name__)


class JournalError(ZooKeeperError):
    """The data directory cannot be used."""


class DataDirectoryInUse(JournalError):
    """Another server has it."""


class JournalCorrupt(JournalError):
    """A file is damaged other than by a crash while it was written. `path` and `offset` say where."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(
            f"the journal is damaged: {path} at offset {offset}: {reason}. Nothing was changed. "
            f"Restore the data directory from a backup, or start with an empty one."
        )
        self.path = path
        self.offset = offset


class JournalWriteFailed(JournalError):
    """The disk did not take what had to be written; the server stops, and nothing unwritten was acknowledged."""


class _Damaged(NamedTuple):
    """The newest snapshot that cannot be read."""

    zxid: int
    error: JournalCorrupt


class Journal:
    """One data directory. `limit` is the size of the log, in bytes, at which a snapshot is due.

    `append` and `append_and_rotate` are for one thread, `archive` may run in another.
    """

    def __init__(self, folder: Path, entropy: Callable[[int], bytes], limit: int) -> None:
        self._folder = folder
        self._entropy = entropy
        self._limit = limit
        self._encoder = msgspec.msgpack.Encoder()
        self._lock = -1
        self._log = -1
        self._log_path = folder
        self._seed = 0
        self._size = 0
        self._zxid = 0
        self._torn: tuple[Path, int] | None = None

    @property
    def is_long(self) -> bool:
        """Whether a snapshot is due."""
        return self._size > self._limit

    @property
    def snapshots_size(self) -> int:
        """Bytes of the snapshots on disk. Any thread may ask."""
        return self._size_of(_SNAPSHOT)

    @property
    def logs_size(self) -> int:
        """Bytes of the logs on disk. Any thread may ask."""
        return self._size_of(_LOG)

    def open(self, fresh: State, secret: bytes) -> tuple[State, bytes]:
        """The state and the secret of this directory: what is in it or, where it is empty, what is given.

        Raises DataDirectoryInUse, JournalCorrupt, JournalError.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise JournalError(f"cannot use the data directory {self._folder}: {error}") from error
        try:
            return self._load(fresh, secret)
        except OSError as error:
            self.close()
            raise JournalError(f"cannot use the data directory {self._folder}: {error}") from error
        except BaseException:
            self.close()
            raise

    def append(self, transactions: Sequence[Transaction]) -> None:
        """They are on disk when this returns. Raises JournalWriteFailed, after which nothing can be appended."""
        if not transactions:
            return
        data = block(self._encoder.encode(transactions), self._seed)
        try:
            _write_all(self._log, data)
            os.fsync(self._log)
        except OSError as error:
            self._give_up(error)
        self._size += len(data)
        self._zxid = transactions[-1].zxid

    def append_and_rotate(self, transactions: Sequence[Transaction], zxid: int) -> None:
        """As `append`; what comes after `zxid`, the last of them, goes into a new file. The snapshot of that moment can
        then `archive` the old ones."""
        self.append(transactions)
        if self._zxid != zxid:
            raise JournalError(f"the snapshot shows 0x{zxid:x}, the files that it replaces end at 0x{self._zxid:x}")
        try:
            self._begin_log()
        except OSError as error:
            self._give_up(error)

    def archive(self, snapshot: Snapshot) -> None:
        """Writes the snapshot and removes the files that it replaces. Raises JournalWriteFailed."""
        if not self._path(_LOG, snapshot.zxid + 1).exists():
            raise JournalError(f"no log goes on behind the snapshot of 0x{snapshot.zxid:x}: it cannot replace any")
        try:
            path = self._path(_SNAPSHOT, snapshot.zxid)
            write_snapshot(snapshot, path, self._entropy(SALT_LENGTH)).replace(path)
            _sync_folder(self._folder)
            for zxid, path in self._files(_SNAPSHOT):
                if zxid < snapshot.zxid:
                    path.unlink()
            for zxid, path in self._files(_LOG):
                if zxid <= snapshot.zxid:
                    path.unlink()
        except OSError as error:
            raise JournalWriteFailed(f"cannot write a snapshot into {self._folder}: {error}") from error

    def close(self) -> None:
        """Gives the directory free for others."""
        for descriptor in (self._log, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._lock = -1

    # --- start -------------------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise DataDirectoryInUse(
                f"another server uses the data directory {self._folder}: stop it, or give this one its own"
            ) from None

    def _load(self, fresh: State, secret: bytes) -> tuple[State, bytes]:
        snapshot, damaged = self._newest_snapshot()
        if snapshot is None:
            self._remove_leftovers()
            self._begin(snapshot_of(fresh, secret))
            return fresh, secret
        state = restore(snapshot, fresh.sessions.tick, fresh.sessions.next_id)
        self._replay_logs(state)
        if damaged is not None and state.zxid < damaged.zxid:
            raise damaged.error
        if self._torn is not None:
            _cut(*self._torn)
        self._remove_leftovers()
        self._zxid = state.zxid
        replayed = self._size
        self._begin_log()
        self._size = replayed
        return state, snapshot.heading.secret

    def _begin(self, first: Snapshot) -> None:
        """The first start in this folder: a snapshot and the log behind it, or what `_has_begun` knows."""
        path = self._path(_SNAPSHOT, first.zxid)
        unfinished = write_snapshot(first, path, self._entropy(SALT_LENGTH))
        _sync_folder(self._folder)
        self._zxid = first.zxid
        self._begin_log()
        unfinished.replace(path)
        _sync_folder(self._folder)

    def _has_begun(self, logs: list[tuple[int, Path]]) -> bool:
        """False where these logs, without a snapshot, are what a crash during the first start leaves behind."""
        if not logs:
            return False
        zxid, path = logs[0]
        unfinished = self._path(_SNAPSHOT, zxid - 1)
        is_alone = len(logs) == 1 and unfinished.with_name(unfinished.name + UNFINISHED).exists()
        return not is_alone or path.stat().st_size > HEADER_LENGTH

    def _remove_leftovers(self) -> None:
        """Of starts and snapshots that were cut short: the log first, which means nothing without its snapshot."""
        leftovers = list(self._folder.glob(f"{_SNAPSHOT}*{UNFINISHED}"))
        if leftovers and not self._files(_SNAPSHOT):
            for _, path in self._files(_LOG):
                path.unlink()
            _sync_folder(self._folder)
        for path in leftovers:
            path.unlink()

    def _newest_snapshot(self) -> tuple[Snapshot | None, _Damaged | None]:
        """None where the directory is empty. An older one serves where the newest is damaged, if the logs since then
        are still there: the replay finds a gap, and the caller an end before the damaged one."""
        damaged: _Damaged | None = None
        for zxid, path in reversed(self._files(_SNAPSHOT)):
            try:
                snapshot = read_snapshot(path)
            except Fault as fault:
                error = JournalCorrupt(path, fault.offset, "this snapshot is not whole")
            else:
                if snapshot.zxid == zxid:
                    return snapshot, damaged
                error = JournalCorrupt(path, 0, "this snapshot is not the one that its name says")
            damaged = damaged or _Damaged(zxid, error)
        if damaged is not None:
            raise damaged.error
        logs = self._files(_LOG)
        if self._has_begun(logs):
            raise JournalCorrupt(logs[0][1], 0, "there is a log but no snapshot that it follows")
        return None, None

    def _replay_logs(self, state: State) -> None:
        logs = self._files(_LOG)
        self._check_next_log(state.zxid, logs)
        # A log whose successor begins within the snapshot was left over by a crash while old files were removed.
        needed = [
            (zxid, path)
            for index, (zxid, path) in enumerate(logs)
            if index == len(logs) - 1 or logs[index + 1][0] > state.zxid + 1
        ]
        for index, (zxid, path) in enumerate(needed):
            if zxid > state.zxid + 1:
                raise JournalCorrupt(
                    path, 0, f"the transactions from 0x{state.zxid + 1:x} to 0x{zxid - 1:x} are missing"
                )
            self._replay_log(state, path, is_newest=index == len(needed) - 1)

    def _check_next_log(self, zxid: int, logs: list[tuple[int, Path]]) -> None:
        """The log that goes on behind the snapshot was on disk before the snapshot had its name."""
        later = [(first, path) for first, path in logs if first > zxid]
        if not later:
            path = self._path(_LOG, zxid + 1)
            raise JournalCorrupt(path, 0, "this log is missing; it was there when the snapshot before it was made")
        first, path = later[0]
        if first > zxid + 1:
            raise JournalCorrupt(path, 0, f"the transactions from 0x{zxid + 1:x} to 0x{first - 1:x} are missing")

    def _replay_log(self, state: State, path: Path, *, is_newest: bool) -> None:
        at = 0
        try:
            for offset, payload in read_blocks(path):
                at = offset
                for transaction in _TRANSACTIONS.decode(payload):
                    if transaction.zxid > state.zxid:
                        state.replay(transaction)
        except Fault as fault:
            if not (is_newest and fault.is_tail):
                raise JournalCorrupt(path, fault.offset, _what_is_wrong(fault)) from None
            # It is cut when nothing else speaks against a start: whoever is refused finds everything as it was.
            self._torn = path, fault.offset
        except (msgspec.DecodeError, ReplayGap, KeyError) as error:
            raise JournalCorrupt(path, at, f"this block does not follow the one before ({error})") from error
        self._size += path.stat().st_size

    def _begin_log(self) -> None:
        """A new log for what follows the newest transaction. A log of the same name has no transaction in it."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        self._log_path = self._path(_LOG, self._zxid + 1)
        head = header(self._entropy(SALT_LENGTH))
        self._log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        _write_all(self._log, head)
        os.fsync(self._log)
        _sync_folder(self._folder)
        self._seed = seed_of(head)
        self._size = 0

    # --- files -------------------------------------------------------------------------------------------------------

    def _give_up(self, error: OSError) -> None:
        """After a failed write or fsync nobody knows what the disk holds, and trying again would not tell."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        raise JournalWriteFailed(f"cannot write to {self._log_path}: {error}") from error

    def _size_of(self, kind: str) -> int:
        total = 0
        for _, path in self._files(kind):
            # The archivist may be removing it at this moment.
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _path(self, kind: str, zxid: int) -> Path:
        return self._folder / f"{kind}{zxid:0{_HEX_DIGITS}x}"

    def _files(self, kind: str) -> list[tuple[int, Path]]:
        """Zxid and path of the files of a kind, oldest first."""
        found = []
        for path in self._folder.iterdir():
            digits = path.name.removeprefix(kind)
            if path.name.startswith(kind) and len(digits) == _HEX_DIGITS:
                try:
                    found.append((int(digits, 16), path))
                except ValueError:
                    continue
        return sorted(found)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _what_is_wrong(fault: Fault) -> str:
    if fault.is_header:
        return "the header of this file is damaged or not whole"
    if fault.is_tail:
        return "the last block of this file is not whole, and a newer log follows the file"
    return "this block is not whole, and it is not the last one"


def _cut(path: Path, offset: int) -> None:
    size = path.stat().st_size - offset
    if size:
        _logger.warning(
            "%s ends with %d bytes at offset %d that are no whole block: they are cut off. After a crash that is what "
            "was being written and was never acknowledged; after anything else, look for what damaged the file.",
            path,
            size,
            offset,
        )
    with path.open("r+b") as file:
        file.truncate(offset)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_TRANSACTIONS: Final = msgspec.msgpack.Decoder(list[Transaction])
