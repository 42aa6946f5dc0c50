"""What the roles have in common."""
