"""A machine rebuilt from a snapshot in a network namespace."""
