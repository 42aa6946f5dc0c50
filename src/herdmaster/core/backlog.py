"""The tasks that wait in `/tasks`, by queue and priority, oldest first.

Age is the order of arrival. A listing has no such order, so its new names are taken in the order of their text: for
calls that of their ULIDs, for reference tasks that of their numbers.

A task can be held: it is in `/tasks`, but not on offer, because a transaction about it is under way or because it is
postponed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Final

from herdmaster.core.names import queue_and_priority, ulid_time_ms
from herdmaster.core.roster import Kind, kind_of

_MIN_VOIDS: Final = 64


class Bucket:
    """The tasks of one queue, priority and kind."""

    __slots__ = ("kind", "names", "priority", "queue", "voids")

    def __init__(self, queue: str, priority: int, kind: Kind) -> None:
        self.queue = queue
        self.priority = priority
        self.kind = kind
        self.names: deque[str] = deque()
        self.voids = 0  # at least so many of `names` have left


class Backlog:
    """The names in `/tasks`. Memory per task: its name, an entry in one dict, and a place in one deque."""

    def __init__(self) -> None:
        self._arrivals: dict[str, int] = {}
        self._count = 0
        self._foreign: set[str] = set()
        self._held: dict[str, str] = {}  # the queue of each
        self._counts: Counter[str] = Counter()  # of the tasks that are here, by queue
        self._buckets: dict[tuple[str, int, Kind], Bucket] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, name: str) -> bool:
        return name in self._arrivals

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrivals)

    def add(self, name: str) -> bool:
        """Add a name. Return False for one that is not a task's."""
        if name in self._arrivals:
            return True
        bucket = self._bucket(name)
        if bucket is None:
            self._foreign.add(name)
            return False
        self._count += 1
        self._arrivals[name] = self._count
        self._counts[bucket.queue] += 1
        bucket.names.append(name)
        return True

    def remove(self, name: str) -> None:
        if self._arrivals.pop(name, None) is None:
            self._foreign.discard(name)
            return
        queue = self._held.get(name)
        if queue is not None:
            self._counts[queue] -= 1
            return  # one that was taken has no place any more
        # Its place is dropped at its turn. That may never come, where no worker serves the queue: so voids are counted.
        bucket = self._bucket(name)
        if bucket is not None:
            self._counts[bucket.queue] -= 1
            bucket.voids += 1
            if bucket.voids > max(_MIN_VOIDS, len(bucket.names) // 2):
                self._sweep(bucket)

    def replace(self, names: Iterable[str]) -> list[str]:
        """Replace all names by a listing. Return the names in it that are not a task's."""
        listed = set(names)
        self._foreign.clear()
        for name in [name for name in self._arrivals if name not in listed]:
            self.remove(name)
        return [name for name in sorted(listed - self._arrivals.keys()) if not self.add(name)]

    @property
    def size(self) -> int:
        """The number of names in the folder, those included that are not a task's."""
        return len(self._arrivals) + len(self._foreign)

    def hold(self, name: str) -> None:
        """Take a task from the offer. It need not be here yet."""
        place = queue_and_priority(name)
        if place is not None:
            self._held[name] = place[0]

    def release(self, name: str, *, last: bool = False) -> None:
        """Put a task that is still here on offer again, in front of the others.

        With `last` it goes behind them: so tasks that were held since their arrival keep their order.
        """
        if name not in self._held:
            return
        del self._held[name]
        if name in self._arrivals:
            bucket = self._bucket(name)
            assert bucket is not None
            if last:
                bucket.names.append(name)
            else:
                bucket.names.appendleft(name)

    def offers(self) -> list[tuple[int, int, Bucket]]:
        """Return the buckets with a task on offer, as (negated priority, arrival of the oldest, bucket).

        The smallest is to be served first.
        """
        found: list[tuple[int, int, Bucket]] = []
        for key, bucket in list(self._buckets.items()):
            arrival = self.oldest(bucket)
            if arrival is not None:
                found.append((-bucket.priority, arrival, bucket))
            else:
                del self._buckets[key]
        return found

    def oldest(self, bucket: Bucket) -> int | None:
        """Return when the bucket's next task arrived, or None where it has none on offer."""
        names = bucket.names
        while names:
            arrival = self._arrivals.get(names[0])
            if arrival is not None and names[0] not in self._held:
                return arrival
            names.popleft()
        bucket.voids = 0
        return None

    def take(self, bucket: Bucket) -> str:
        """Hold and return the bucket's next task. `oldest` must have been called before."""
        name = bucket.names.popleft()
        self._held[name] = bucket.queue
        return name

    def count_by_queue(self) -> dict[str, int]:
        """Return how many tasks are here, by queue."""
        return {queue: count for queue, count in self._counts.items() if count}

    def oldest_by_queue(self) -> dict[str, int]:
        """Return the smallest time in the names of the tasks that are next, by queue, in unix milliseconds."""
        oldest: dict[str, int] = {}
        for bucket in list(self._buckets.values()):
            time = None if self.oldest(bucket) is None else ulid_time_ms(bucket.names[0])
            if time is not None:
                oldest[bucket.queue] = min(time, oldest.get(bucket.queue, time))
        return oldest

    def _sweep(self, bucket: Bucket) -> None:
        places = dict.fromkeys(bucket.names)
        bucket.names = deque(name for name in places if name in self._arrivals and name not in self._held)
        bucket.voids = 0

    def _bucket(self, name: str) -> Bucket | None:
        place = queue_and_priority(name)
        if place is None:
            return None
        key = (*place, kind_of(name))
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(*key)
        return bucket
