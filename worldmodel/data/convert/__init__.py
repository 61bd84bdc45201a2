"""Episodes from and to other formats."""
