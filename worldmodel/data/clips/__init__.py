"""Clips of episodes for training, evaluation and dreams: frames, tokens, and contexts for dreams to start from."""
