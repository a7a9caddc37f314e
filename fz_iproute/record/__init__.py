"""Snapshots: a machine written down as one document, and asked again later."""
