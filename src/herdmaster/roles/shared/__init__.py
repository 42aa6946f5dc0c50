"""What the three roles share: a role's life, its session, committing moves."""
