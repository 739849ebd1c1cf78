"""A run as the machine sees it: its directory, its processes and hosts, and the signals it gets."""
