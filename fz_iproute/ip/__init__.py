"""Everything that runs `ip`: the only wing that starts it."""
