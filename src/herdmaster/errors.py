"""The errors of Herdmaster.

HerdError                            everything below
├── ConfigurationError               a setting that cannot work; says what is allowed (also a ValueError)
├── InvalidName                      a task, queue or worker name outside its grammar (also a ValueError)
├── NotSerializable                  a value that JSON cannot carry; names the argument (also a TypeError)
├── WrongArguments                   arguments that the task's function does not take (also a TypeError)
├── PayloadTooLarge                  more bytes than a payload may have (also a ValueError)
├── ResultTooLarge                   more bytes than an outcome may have (also a ValueError)
├── SavedTooLarge                    more bytes than the results may have that a task saves (also a ValueError)
├── NotSaved                         a result of `once` is not saved, because the task is no longer this worker's
├── BadPayload                       a stored payload that is not a call
├── BadOutcome                       a stored status that is not an outcome
├── BadPolicy                        an access policy of the namespace that cannot be read
├── BadSchedule                      a stored schedule, or its tick, that cannot be used
├── UnknownCall                      a call that no task of the worker's app is registered for
├── NotSubmitted                     the task was certainly not accepted
├── SubmissionUnknown                whether the tasks named in it were accepted is unknown
├── NotAllSubmitted                  of several tasks some were not accepted; has the futures of the others
├── TaskFailed                       the task's code raised; with its type, message and traceback as text
├── TaskCancelled                    the task was cancelled before it ended
├── TaskExpired                      the task was not run in the time that it had
├── TimeLimitExceeded                the task ran past its time limit and was ended (also a TimeoutError)
├── SoftTimeLimitExceeded            raised in a task that has run past its soft time limit (also a TimeoutError)
├── TaskDied                         the process that ran the task ended by itself
├── Retry                            raised by a task that wants to be tried again
├── HookFailed                       a hook keeps a worker from starting; says which, and what it raised
├── NoCurrentTask                    current_task() outside of a task's code (also a LookupError)
├── DuplicateTask                    another task holds the uniqueness key; says which
├── BacklogFull                      more tasks wait than the submitter allows
├── OutcomeGone                      there is no outcome to wait for any more
└── zookeeper.errors.ZooKeeperError  the coordination layer (drawn there)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class HerdError(Exception):
    """Base of every error that Herdmaster raises by itself."""


class ConfigurationError(HerdError, ValueError):
    """A setting that cannot work; the text says which, and what is allowed."""


class InvalidName(HerdError, ValueError):
    """A name outside its grammar; the text says what is allowed."""


class NotSerializable(HerdError, TypeError):
    """A value that JSON cannot carry; the text names the argument, or says that it is the result.

    `is_of_once`: a function that `once` has called returned it, so a task that raises this is not retried, because
    every attempt would call the function again.
    """

    is_of_once = False


class WrongArguments(HerdError, TypeError):
    """Arguments that the task's function does not take: too many, too few, or of another type than its hints say.

    `lacks_parameter`: another version of the function may take them, as they are too many or too few.
    """

    lacks_parameter = False


class PayloadTooLarge(HerdError, ValueError):
    """The payload has `size` bytes where at most `limit` are allowed."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the payload has {self.size} bytes, at most {self.limit} are allowed: "
            "store the data elsewhere and pass its address"
        )


class ResultTooLarge(HerdError, ValueError):
    """The outcome has `size` bytes where at most `limit` are allowed."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the outcome has {self.size} bytes, at most {self.limit} are allowed: "
            "store the result elsewhere and return its address"
        )


class SavedTooLarge(HerdError, ValueError):
    """The results that a task saves with `once` have more bytes together than are allowed; the text says how many. A
    task that raises this is not retried, because every attempt would call the function again."""


class NotSaved(HerdError):
    """The result of `once` is not saved for certain: the task was cancelled or has left this worker, its run was
    stopped, or the session ended. The text says which. The task may run again elsewhere, so its code must end."""


class BadPayload(HerdError):
    """A stored payload that is not a call; the text is one sentence that says why."""


class BadSignature(HerdError):
    """A payload or an outcome without a signature, or with a wrong one, where signed ones are expected."""


class BadOutcome(HerdError):
    """A stored status that is not an outcome; the text is one sentence that says why."""


class BadPolicy(HerdError):
    """A stored access policy that this version cannot read, so that it does not know which ACLs znodes are to have."""


class BadSchedule(HerdError):
    """A stored schedule, or its tick, that cannot be used; the text is one sentence that says why."""


class UnknownCall(HerdError):
    """No task of the worker's app is registered under the name that the call has."""


class NotSubmitted(HerdError):
    """The task was certainly not accepted; it may be submitted again."""


class SubmissionUnknown(HerdError):
    """Whether the tasks in `names` were accepted is unknown; their outcomes may still appear under these names."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(tuple(names))
        self.names: tuple[str, ...] = tuple(names)

    def __str__(self) -> str:
        shown = ", ".join(self.names[:10])
        more = f" and {len(self.names) - 10} more" if len(self.names) > 10 else ""
        return (
            f"it is unknown whether these tasks were accepted: {shown}{more}. Wait with herd.future(name): it has "
            "the outcome, or raises OutcomeGone if they were not"
        )


class NotAllSubmitted(HerdError):
    """Of several tasks that were submitted together some were not accepted. `futures` has, in the order of the items,
    those of the accepted ones and None for the others; `errors` what is known of each of those, by its position.
    """

    def __init__(self, futures: Sequence[object | None], errors: Mapping[int, HerdError]) -> None:
        super().__init__(futures, errors)
        self.futures: tuple[object | None, ...] = tuple(futures)
        self.errors: dict[int, HerdError] = dict(errors)

    def __str__(self) -> str:
        position, error = min(self.errors.items())
        return (
            f"{len(self.futures) - len(self.errors)} of {len(self.futures)} tasks were accepted, see `futures`; "
            f"the first that was not is item {position}: {type(error).__name__}: {error}"
        )


class TaskFailed(HerdError):
    """The task's code raised. Everything is text: `type` as `module.qualname` (bare for built-in exceptions),
    `message`, and `traceback` as Python prints it, cut in the middle where it was long.
    """

    def __init__(self, type: str, message: str = "", traceback: str = "") -> None:  # noqa: A002 - its name in data
        super().__init__(type, message, traceback)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class TaskCancelled(HerdError):
    """The task was cancelled before it ended."""


class TaskExpired(HerdError):
    """The task was not run in the time that it had."""


class TimeLimitExceeded(HerdError, TimeoutError):
    """The task ran past its time limit (`timeout=`) and was ended, as far as code of its kind can be."""


class SoftTimeLimitExceeded(HerdError, TimeoutError):
    """Raised in a task that has run past its soft time limit (`soft_timeout=`), so that it can clear up and end."""

    def __str__(self) -> str:
        return super().__str__() or "the task ran past its soft time limit"  # a thread is sent the bare class


class TaskDied(HerdError):
    """The process that ran the task ended by itself; the text says how."""


class Retry(HerdError):
    """Raised by a task's code to be tried again, `after` seconds from now, or when its backoff says. It uses up an
    attempt; after the last one the task fails with this as its error.
    """

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        if after is not None and not 0 <= after < float("inf"):
            raise ValueError(f"after={after!r}: it takes a number of seconds from 0")
        self.after = after


class HookFailed(HerdError):
    """A hook of the app keeps a worker from starting; the text says which, and what it raised."""


class NoCurrentTask(HerdError, LookupError):
    """`current_task()` was called by code that no task runs."""


class DuplicateTask(HerdError):
    """The task called `name` holds the uniqueness key, so no other was submitted."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} holds the same key: wait for it with herd.future({self.name!r})"


class BacklogFull(HerdError):
    """More tasks wait in ZooKeeper than the submitter allows (`max_backlog`); nothing was submitted."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(waiting, limit)
        self.waiting = waiting
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.waiting} tasks wait, at most {self.limit} are allowed: submit later, or add workers"


class OutcomeGone(HerdError):
    """There is no outcome to wait for: it was collected, or its time to live is over."""
