"""What each operation knows about its own wiggle: one row an operation (see kinds.py), and nothing of tensors."""
