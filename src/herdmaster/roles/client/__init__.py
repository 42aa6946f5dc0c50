"""A client: submits tasks and waits for their outcomes."""
