"""The effects: everything that runs `ip` or touches the machine."""
