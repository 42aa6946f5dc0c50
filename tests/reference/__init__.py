"""The reference's master, worker and client, written plainly with kazoo.

*The reference* is the set of example programs of the O'Reilly ZooKeeper book. Herdmaster's roles can be mixed with its
roles in one deployment, so the tests need roles that share no code with ours and that move tasks as the reference does:
in separate requests, never in a transaction, driven by one-shot watches.

Its traits that a mixed deployment meets, each marked in the code by the word "Trait":

- A move is two requests (create there, then delete here): a task can be in two places, and stay there after a fault.
- The master compares a listing with the listing before it. A name that it passed over is not looked at again while it
  stays in `/tasks`; a name that leaves and comes back between two listings is not noticed.
- With no worker alive a task is passed over, and waits for the next primary.
- The worker has one thread behind 200 places, which its own listings take as well; what does not fit is dropped.
- The client takes any outcome that contains `done` as success, and submits again when the connection is lost.

Left out, because they would only stop a test at random: the Java master's takeover never ends when it finds live
workers but no inbox, or when an inbox goes away meanwhile, and it repeats the create of a task that exists already
without a pause; the Java worker writes a status to a wrong path after a connection loss.
"""

from tests.reference.client import ReferenceClient, Task, is_success
from tests.reference.master import MasterState, ReferenceMaster
from tests.reference.recovery import Takeover
from tests.reference.session import Znodes
from tests.reference.worker import ReferenceWorker

__all__ = [
    "MasterState",
    "ReferenceClient",
    "ReferenceMaster",
    "ReferenceWorker",
    "Takeover",
    "Task",
    "Znodes",
    "is_success",
]
