"""The client role: submits tasks and waits for their outcomes."""
