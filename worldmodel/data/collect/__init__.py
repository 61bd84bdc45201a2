"""Collecting episodes from an environment, in parallel processes that may crash."""
