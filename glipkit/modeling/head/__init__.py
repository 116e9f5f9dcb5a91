"""Where words and pixels meet: the fused tower and its predictions."""
