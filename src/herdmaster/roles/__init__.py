"""The roles: each watches, decides and commits."""
