"""Examines a machine: which VPN takes its traffic, where packets go, and what is wrong. It runs no command."""
