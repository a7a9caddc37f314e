"""Rebuilds the network of a recorded machine in a network namespace."""
