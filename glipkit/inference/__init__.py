"""From pictures and words to boxes in one call: the Python API."""
