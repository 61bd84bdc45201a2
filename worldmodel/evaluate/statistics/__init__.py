"""Means with bootstrap intervals."""
