"""`watch`: keeps the VPN's tables in step with every change of main."""
