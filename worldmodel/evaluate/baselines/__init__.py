"""What a prior is compared with."""
