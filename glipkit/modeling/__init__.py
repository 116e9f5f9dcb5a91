"""The paper: each class is a box in one of its figures."""
