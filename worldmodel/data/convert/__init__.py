"""Converts episodes from and to other formats."""
