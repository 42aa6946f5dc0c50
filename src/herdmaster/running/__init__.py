"""The code around a task's function: finding it, calling it, and telling what came of it."""
