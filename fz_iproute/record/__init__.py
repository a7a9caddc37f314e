"""Snapshots: a machine recorded in one document, which can be examined later and elsewhere."""
