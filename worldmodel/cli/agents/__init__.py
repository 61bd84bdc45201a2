"""Agents that learn in dreams."""
