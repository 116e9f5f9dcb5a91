"""Compiled operators, one file each, with a plain PyTorch path of the same numbers."""
