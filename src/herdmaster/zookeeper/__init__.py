"""The coordination layer: a ZooKeeper client and its recipes. It knows nothing of tasks."""
