"""Fetching pictures and labels."""
