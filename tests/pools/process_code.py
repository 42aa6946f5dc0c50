"""What the processes of the pools under test run: a request is the name of one of these, a blank, and its argument."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.messages import NoAnswer, Reply, encode_frame

SendNote = Callable[[bytes], None]
Ask = Callable[[bytes], bytes]


def echo(text: str, send_note: SendNote) -> str:
    return text


def pid(text: str, send_note: SendNote) -> str:
    return str(os.getpid())


def inheritable(text: str, send_note: SendNote) -> str:
    """The files that programs would inherit which are started with `close_fds=False`."""
    with os.scandir("/proc/self/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    return " ".join(str(number) for number in numbers if number > 2 and _is_inheritable(number))


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that listed them
        return False


def sleep(text: str, send_note: SendNote) -> str:
    time.sleep(float(text))
    return "slept"


def wait_for(text: str, send_note: SendNote) -> str:
    """Wait until there is such a file."""
    while not Path(text).exists():
        time.sleep(0.01)
    return "found"


def spin(text: str, send_note: SendNote) -> str:
    send_note(str(os.getpid()).encode())
    while True:
        pass


def tidy_up(text: str, send_note: SendNote) -> str:
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded as error:
        return f"tidied up: {error}"
    return "not interrupted"


def start_family(text: str, send_note: SendNote) -> str:
    """Two generations that would live for long, and says who they are. It ends after so many seconds, or, with a path,
    when there is such a file."""
    shell = subprocess.Popen(["/bin/sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    send_note(f"{os.getpid()} {shell.pid} {int(shell.stdout.readline())}".encode())
    if text.startswith("/"):
        wait_for(text, send_note)
    else:
        time.sleep(float(text))
    return "done"


def take_memory(text: str, send_note: SendNote) -> str:
    return str(len(bytearray(int(text))))


def exit_with(text: str, send_note: SendNote) -> str:
    os._exit(int(text))


def segfault(text: str, send_note: SendNote) -> str:
    ctypes.string_at(0)
    return "survived"


def say(text: str, send_note: SendNote) -> str:
    print(f"out {text}")  # noqa: T201 - that it is captured is to be seen
    print(f"err {text}", file=sys.stderr)  # noqa: T201
    subprocess.run(["/bin/sh", "-c", f"echo sub {text}"], check=True)
    print(f"unended {text}", end="")  # noqa: T201
    return "said"


def close_streams(text: str, send_note: SendNote) -> str:
    """So that the next file that is opened gets the number of one, unless something else does."""
    if text == "objects":
        sys.stdout.close()
        sys.stderr.close()
        sys.stdout = None
    else:
        os.close(1)
        os.close(2)
    return "closed"


def children_obey(text: str, send_note: SendNote) -> str:
    """What SIGTERM, SIGINT and SIGHUP do to programs that a task starts: all are to be ended."""
    ended = [subprocess.run(["/bin/sh", "-c", f"kill -{name} $$"], check=False) for name in ("TERM", "INT", "HUP")]
    return str([each.returncode for each in ended])


def where(text: str, send_note: SendNote) -> str:
    return f"{Path.cwd()} {sys.path[0]}"


def move(text: str, send_note: SendNote) -> str:
    os.chdir(text)
    return str(Path.cwd())


def log(text: str, send_note: SendNote) -> str:
    """From the process, from one that it forks, and behind an unended line."""
    logger = logging.getLogger("shop.cart")
    logger.debug("too fine")
    logger.info("%s items", text)
    sys.stderr.write("unended ")
    sys.stderr.flush()
    try:
        refuse("no such item", send_note)
    except ValueError:
        logger.exception("failed")
    pid = os.fork()
    if pid == 0:
        logger.warning("of a child")
        os._exit(0)
    os.waitpid(pid, 0)
    return "logged"


def log_for_ever(text: str, send_note: SendNote) -> str:
    for each in ("logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, each, False)  # to find their names, logging passes over any exception
    while True:
        logging.getLogger("shop.cart").warning("x" * 100)


def last_words(text: str, send_note: SendNote) -> str:
    print("farewell")  # noqa: T201
    os._exit(1)


def print_for_ever(text: str, send_note: SendNote) -> str:
    while True:
        print("y" * 1000)  # noqa: T201


def leave_thread(text: str, send_note: SendNote) -> str:
    """One that keeps its process from ending by itself."""
    threading.Thread(target=time.sleep, args=(300,)).start()
    return str(os.getpid())


def fork(text: str, send_note: SendNote) -> str:
    """A copy of the process that holds on to everything that it has inherited."""
    if os.fork() == 0:
        time.sleep(300)
        os._exit(0)
    os._exit(5)


def notes(text: str, send_note: SendNote) -> str:
    for number in range(int(text)):
        send_note(str(number).encode())
    return "noted"


def stray_note(text: str, send_note: SendNote) -> str:
    """One that comes when the next request is under way."""
    threading.Timer(0.2, send_note, (b"stray",)).start()
    return "replied"


def forge(text: str, send_note: SendNote) -> str:
    """Writes what is no reply of this request into its process's socket, as a copy of the process could: `later` when
    this has replied."""
    frames = {
        "other": encode_frame(Reply(0, b"another's")),
        "garbage": b"\x00\x00\x00\x02\xc1\xc1",
        "huge": b"\xff" * 8,
    }
    when, _, what = text.partition(" ")
    if when == "later":
        threading.Timer(0.2, os.write, (int(sys.argv[1]), frames[what])).start()
        return "forged"
    os.write(int(sys.argv[1]), frames[what])
    time.sleep(30)
    return "not noticed"


def race(text: str, send_note: SendNote) -> str:
    """About as long as the soft limit that the caller gives."""
    end = time.perf_counter() + float(text)
    while time.perf_counter() < end:
        pass
    return "just made it"


def notes_for_ever(text: str, send_note: SendNote) -> str:
    while True:
        send_note(b"x" * 1_000_000)


def refuse(text: str, send_note: SendNote) -> str:
    raise ValueError(text)


def ask(text: str, ask: Ask) -> str:
    return ask(text.encode()).decode()


def ask_impatiently(text: str, ask: Ask) -> str:
    """Twice, the first time until the soft limit."""
    try:
        ask(b"first")
    except SoftTimeLimitExceeded:
        return ask(b"second").decode()
    return "not interrupted"


def ask_on_threads(text: str, ask: Ask) -> str:
    with ThreadPoolExecutor(8) as threads:
        return " ".join(threads.map(lambda number: ask(str(number).encode()).decode(), range(int(text))))


def ask_for_ever(text: str, ask: Ask) -> str:
    """On a thread that is still waiting when the request has been answered."""
    asked = threading.Event()

    def wait() -> None:
        asked.set()
        try:
            ask(b"late")
        except NoAnswer as error:
            sys.stderr.write(f"{error}\n")

    threading.Thread(target=wait).start()
    asked.wait()
    time.sleep(0.1)
    return "left"


def ask_in_a_fork(text: str, ask: Ask) -> str:
    pid = os.fork()
    if pid == 0:
        try:
            ask(b"forked")
        except NoAnswer:
            os._exit(7)
        os._exit(0)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


_ASKING = {each.__name__: each for each in (ask, ask_impatiently, ask_on_threads, ask_for_ever, ask_in_a_fork)}
_CODE = {
    function.__name__: function
    for function in (
        echo, pid, sleep, spin, tidy_up, start_family, take_memory, exit_with, segfault, say, notes, stray_note, race,
        notes_for_ever, refuse, last_words, print_for_ever, leave_thread, fork, forge, children_obey, close_streams,
        where, move, log, log_for_ever, inheritable, wait_for,
    )
}  # fmt: skip


def make_handler(argument: str) -> Callable[[bytes, SendNote, Ask], bytes]:
    if argument == "broken":
        raise LookupError("there is no such app")

    def handle(request: bytes, send_note: SendNote, ask: Ask) -> bytes:
        name, _, text = request.decode().partition(" ")
        if name in _ASKING:
            return _ASKING[name](text, ask).encode()
        return _CODE[name](text, send_note).encode()

    return handle
