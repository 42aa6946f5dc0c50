"""Looks at a namespace without changing it."""
