"""Runs `ip`. No other wing starts it."""
