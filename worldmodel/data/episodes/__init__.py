"""Episodes: their files, the folder that holds them, and what all of one dataset have in common."""
