"""What sections measure on: held-out clips, dreams beside them, and the real simulator."""
