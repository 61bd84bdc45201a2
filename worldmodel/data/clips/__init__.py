"""Clips of episodes as training and dreams need them: frames, tokens, and contexts to begin from."""
