"""The durability of the server: a log of transactions, and snapshots that replace its older part.

The folder holds `snapshot.ZXID` (the state after that transaction), `log.ZXID` (the transactions from that one on),
`acknowledged` (see `acknowledged.py`) and `lock`. A block of a log holds the transactions of one fsync. On start the
newest valid snapshot is loaded and the logs are replayed; every transaction must follow the one before it. A snapshot
gets its name only when the log that follows it is on disk, also the first one. So if that log is missing, it was
removed by hand.

An incomplete last block was never acknowledged, so it is cut off, with a warning, because a damaged block at the end
looks the same. The journal does not interpret any other damage: it names the file and the offset, and a human with a
backup has to decide.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from herdmaster import forks
from herdmaster.zookeeper.server import log_files
from herdmaster.zookeeper.server.acknowledged import Acknowledged, End
from herdmaster.zookeeper.server.blocks import HEADER_LENGTH, SALT_LENGTH, Fault, block, header, read_blocks, seed_of
from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.journal_errors import (
    DataDirectoryInUse,
    JournalCorrupt,
    JournalError,
    JournalWriteFailed,
)
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
_RETRY_SECONDS: Final = 5.0
"""Time before another snapshot is tried if there was no descriptor for the last one: each costs a copy of the state."""

_logger = logging.getLogger(__name__)


class _Damaged(NamedTuple):
    """The newest snapshot that cannot be read."""

    zxid: int
    error: JournalCorrupt


class Journal:
    """One data directory. `limit` is the size of the log, in bytes, at which a snapshot is due.

    `append` and `append_and_rotate` are for one thread; `archive` may run in another.
    """

    def __init__(self, folder: Path, entropy: Callable[[int], bytes], limit: int) -> None:
        self._folder = folder
        self._entropy = entropy
        self._limit = limit
        self._encoder = msgspec.msgpack.Encoder()
        self._lock = -1
        self._log = -1
        self._log_path = folder
        self._first = 0  # the first transaction that the log may have
        self._acknowledged = Acknowledged(folder)
        self._seed = 0
        self._size = 0
        self._zxid = 0
        self._torn: tuple[Path, int] | None = None
        self._retry_at = 0.0

    @property
    def is_long(self) -> bool:
        """Whether a snapshot is due. Any thread may ask."""
        return self._size > self._limit and time.monotonic() >= self._retry_at

    @property
    def snapshots_size(self) -> int:
        """Bytes of the snapshots on disk. Any thread may ask."""
        return self._size_of(_SNAPSHOT)

    @property
    def logs_size(self) -> int:
        """Bytes of the logs on disk. Any thread may ask."""
        return self._size_of(_LOG)

    def open(self, fresh: State, secret: bytes) -> tuple[State, bytes]:
        """Open the directory. Return its state and its secret; those given if it is empty.

        Raises DataDirectoryInUse, JournalCorrupt, JournalError.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise JournalError(f"cannot use the data directory {self._folder}: {error}") from error
        try:
            self._acknowledged.open()
            return self._load(fresh, secret)
        except OSError as error:
            self.close()
            raise JournalError(f"cannot use the data directory {self._folder}: {error}") from error
        except BaseException:
            self.close()
            raise

    def append(self, transactions: Sequence[Transaction]) -> None:
        """Write the transactions; they are on disk when this returns. Raises JournalWriteFailed, after which nothing
        can be appended."""
        if not transactions:
            return
        data = block(self._encoder.encode(transactions), self._seed)
        try:
            log_files.write_all(self._log, data)
            os.fsync(self._log)
        except OSError as error:
            self._give_up(error)
        self._size += len(data)
        self._zxid = transactions[-1].zxid
        self._acknowledged.write(End(self._first, self._zxid))

    def append_and_rotate(self, transactions: Sequence[Transaction], zxid: int) -> bool:
        """Append, and begin a new file after `zxid`, the last of the transactions. A snapshot of that moment can then
        `archive` the old files. Return False if a new file cannot be opened: the journal goes on in the old one, and a
        snapshot is due again after a while."""
        self.append(transactions)
        if self._zxid != zxid:
            raise JournalError(f"the snapshot shows 0x{zxid:x}, the files that it replaces end at 0x{self._zxid:x}")
        try:
            self._begin_log()
        except OSError as error:
            if not log_files.is_out_of_descriptors(error):
                self._give_up(error)
            self._put_off(error)
            return False
        return True

    def archive(self, snapshot: Snapshot) -> None:
        """Write the snapshot and remove the files that it replaces. If no file can be opened for it, the next snapshot
        replaces the old files. Raises JournalWriteFailed."""
        if not self._path(_LOG, snapshot.zxid + 1).exists():
            raise JournalError(f"no log follows the snapshot of 0x{snapshot.zxid:x}: it cannot replace any")
        try:
            path = self._path(_SNAPSHOT, snapshot.zxid)
            write_snapshot(snapshot, path, self._entropy(SALT_LENGTH)).replace(path)
            log_files.sync_folder(self._folder)
            for zxid, path in self._files(_SNAPSHOT):
                if zxid < snapshot.zxid:
                    path.unlink()
            for zxid, path in self._files(_LOG):
                if zxid <= snapshot.zxid:
                    path.unlink()
        except OSError as error:
            if log_files.is_out_of_descriptors(error):
                self._put_off(error)
                return
            raise JournalWriteFailed(f"cannot write a snapshot into {self._folder}: {error}") from error

    def close(self) -> None:
        """Release the directory for other servers."""
        for descriptor in (self._log, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._lock = -1
        self._acknowledged.close()

    # --- start -------------------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        forks.add_fd(self._lock)  # a child would keep the lock
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
            self._acknowledged.warn_of_loss(0, self._log_of)
            self._remove_leftovers()
            self._begin(snapshot_of(fresh, secret))
            return fresh, secret
        state = restore(snapshot, fresh.sessions.tick, fresh.sessions.next_id)
        self._replay_logs(state)
        if damaged is not None and state.zxid < damaged.zxid:
            raise damaged.error
        self._acknowledged.warn_of_loss(state.zxid, self._log_of)
        if self._torn is not None:
            log_files.cut(*self._torn)
        self._remove_leftovers()
        self._zxid = state.zxid
        replayed = self._size
        self._begin_log()
        self._size = replayed
        return state, snapshot.heading.secret

    def _begin(self, first: Snapshot) -> None:
        """Begin a new folder: write a snapshot and the log that follows it."""
        path = self._path(_SNAPSHOT, first.zxid)
        unfinished = write_snapshot(first, path, self._entropy(SALT_LENGTH))
        log_files.sync_folder(self._folder)
        self._zxid = first.zxid
        self._begin_log()
        unfinished.replace(path)
        log_files.sync_folder(self._folder)

    def _has_begun(self, logs: list[tuple[int, Path]]) -> bool:
        """Return False if these logs, without a snapshot, are what a crash during the first start leaves behind."""
        if not logs:
            return False
        zxid, path = logs[0]
        unfinished = self._path(_SNAPSHOT, zxid - 1)
        is_alone = len(logs) == 1 and unfinished.with_name(unfinished.name + UNFINISHED).exists()
        return not is_alone or path.stat().st_size > HEADER_LENGTH

    def _remove_leftovers(self) -> None:
        """Remove what starts and snapshots that were cut short have left; the log first, which means nothing without
        its snapshot."""
        leftovers = list(self._folder.glob(f"{_SNAPSHOT}*{UNFINISHED}"))
        if leftovers and not self._files(_SNAPSHOT):
            for _, path in self._files(_LOG):
                path.unlink()
            log_files.sync_folder(self._folder)
        for path in leftovers:
            path.unlink()

    def _newest_snapshot(self) -> tuple[Snapshot | None, _Damaged | None]:
        """Return the newest snapshot that can be read, None if the directory is empty. If the newest is damaged, an
        older one serves if the logs since then exist: the replay finds a gap, and the caller an end before the damaged
        one."""
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
        """Check that the log that follows the snapshot exists: it was on disk before the snapshot had its name."""
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
            # Cut only when nothing else speaks against a start: a refused start leaves everything as it was.
            self._torn = path, fault.offset
        except (msgspec.DecodeError, ReplayGap, KeyError) as error:
            raise JournalCorrupt(path, at, f"this block does not follow the one before ({error})") from error
        self._size += path.stat().st_size

    def _begin_log(self) -> None:
        """Begin a new log for what follows the newest transaction. A log of the same name has no transaction in it.
        Raises OSError; then the log is the one before."""
        path = self._path(_LOG, self._zxid + 1)
        head = header(self._entropy(SALT_LENGTH))
        log = log_files.begin(path, head)
        if self._log >= 0:
            os.close(self._log)
        self._log, self._log_path, self._first = log, path, self._zxid + 1
        self._seed = seed_of(head)
        self._size = 0

    # --- files -------------------------------------------------------------------------------------------------------

    def _put_off(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        _logger.warning(
            "the next snapshot waits, and %s grows meanwhile: %s. `ulimit -n` raises the limit",
            self._log_path.name,
            error,
        )

    def _give_up(self, error: OSError) -> None:
        """Stop after a failed write or fsync: it is unknown what the disk holds, and trying again would not show it."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        raise JournalWriteFailed(f"cannot write to {self._log_path}: {error}") from error

    def _size_of(self, kind: str) -> int:
        total = 0
        for _, path in self._files(kind):
            # The archiving thread may be removing it at this moment.
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _path(self, kind: str, zxid: int) -> Path:
        return self._folder / f"{kind}{zxid:0{_HEX_DIGITS}x}"

    def _log_of(self, first: int) -> Path:
        return self._path(_LOG, first)

    def _files(self, kind: str) -> list[tuple[int, Path]]:
        """Return zxid and path of the files of a kind, oldest first."""
        found = []
        for path in self._folder.iterdir():
            digits = path.name.removeprefix(kind)
            if path.name.startswith(kind) and len(digits) == _HEX_DIGITS:
                try:
                    found.append((int(digits, 16), path))
                except ValueError:
                    continue
        return sorted(found)


def _what_is_wrong(fault: Fault) -> str:
    if fault.is_header:
        return "the header of this file is damaged or not whole"
    if fault.is_tail:
        return "the last block of this file is not whole, and a newer log follows the file"
    return "this block is not whole, and it is not the last one"


_TRANSACTIONS: Final = msgspec.msgpack.Decoder(list[Transaction])
