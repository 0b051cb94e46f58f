"""Readings on paper: an operand that is written down, the printers, and the worked derivation. The engine knows nothing of it."""
