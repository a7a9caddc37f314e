"""What a machine needs to run fz-iproute: units, completions, figures for a monitoring system."""
