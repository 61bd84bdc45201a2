"""Faster ways to run the same networks, one folder for each kind of device."""
