"""The dataset doctor: what in an annotation file makes AP silently low, and what to do about it."""
