"""The steps of a run, from an environment to a measured world."""
