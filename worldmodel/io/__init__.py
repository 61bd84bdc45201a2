"""Files: what comes from outside, and who may write."""
