"""What a world would see of an environment, before anything is collected."""
