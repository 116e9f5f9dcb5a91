"""In which words the classes of a test set are asked."""
