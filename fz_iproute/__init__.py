"""Keeps a copy of the link-scoped routes of table main in a VPN's table, by driving `ip`."""

__version__ = "0.2.0"
