"""Data: episodes collected from an environment, stored one file each, cut into clips and into tokens.

Nothing is imported here, so that the processes that collect episodes start without loading PyTorch.
"""
