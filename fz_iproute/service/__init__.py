"""Integrates fz-iproute into a machine: systemd units, cron, shell completions, man pages, and metrics."""
