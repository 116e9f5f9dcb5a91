"""What is set: every key with its default, and how files and overrides are merged."""
