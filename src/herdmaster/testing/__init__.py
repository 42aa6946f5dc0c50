"""What tests of Herdmaster, and of programs that use it, run against. Import the modules by name; this one is empty."""
