"""What people do to tasks, queues and keys."""
