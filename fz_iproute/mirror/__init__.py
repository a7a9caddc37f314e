"""Decides what should be in the VPN's tables, and plans the commands. It only computes; it runs nothing."""
