"""An explicit-state model of the protocol, explored to the end.

It takes the transitions from the table itself: the moves are those of `core/transitions.py`, carried out operation by
operation; a refused one is judged by `judge`, followed up by `core/recovery.py`; payloads and their counts are real.
Around them stand the roles and their rules (`primary`, `worker`, `client`), reduced to what concerns one task at a
time, the reference's roles (`reference`), and sessions, connections and crashes (`seats`, `slots`, `client`).

Faults are losses of connection and crashes; how many there may be in all is a run's measure. All else that may happen
happens whenever it may: a request is carried out at any time after it was sent, whatever is heard is heard at any time
after it happened, a session whose client is away ends at any time, and what it had sent until then may still arrive.

What is promised (`server`, `client`, `worker`) is checked with every step. In the end, from every state there has to be
a way to one where every task has ended and nothing is left of it, without further faults and without an operator.

Not modelled: time (what waits for a while waits for any while, so a delayed task is due at any time), batches of more
than one task except submissions, replays, claims of keys (but for a batch that is refused for one), limits of queues,
sweeps of journals. A read is of the moment of the decision that asks for it.
"""
