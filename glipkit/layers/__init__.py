"""Modules that any detector could use."""
