"""What the tools do: models, data, loop and judges put together from a configuration."""
