"""Files of this program: configuration, locks, the journal; and iproute2's names of tables."""
