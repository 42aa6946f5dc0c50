"""The operations of people on tasks, queues and keys."""
