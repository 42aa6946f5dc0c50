"""Where task code runs."""
