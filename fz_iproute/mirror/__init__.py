"""What should be in the VPN's tables, and the commands that lead there. Pure."""
