"""What is done with data and finished worlds."""
