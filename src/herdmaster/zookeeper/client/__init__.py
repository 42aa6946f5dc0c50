"""An asyncio client of ZooKeeper: one `Client` object is one session."""

from herdmaster.zookeeper.client.client import Client
from herdmaster.zookeeper.client.connect_string import ConnectString, parse_connect_string
from herdmaster.zookeeper.client.credentials import Credential, Digest, Kerberos, Sasl, checked
from herdmaster.zookeeper.client.nowait import Callback, Node
from herdmaster.zookeeper.client.predecessors import Predecessors
from herdmaster.zookeeper.client.security import PLAIN, Security
from herdmaster.zookeeper.client.transaction import Results, Transaction
from herdmaster.zookeeper.client.watches import Watcher

__all__ = [
    "PLAIN",
    "Callback",
    "Client",
    "ConnectString",
    "Credential",
    "Digest",
    "Kerberos",
    "Node",
    "Predecessors",
    "Results",
    "Sasl",
    "Security",
    "Transaction",
    "Watcher",
    "checked",
    "parse_connect_string",
]
