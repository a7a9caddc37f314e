"""The pure half: what should be there, and which commands lead there. No effects, no clock."""
