"""What the program says about a machine. Pure."""
