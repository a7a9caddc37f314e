"""Reads and writes files: the configuration, locks, the journal, and iproute2's names of tables."""
