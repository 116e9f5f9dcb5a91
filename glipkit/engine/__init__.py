"""Running things: checkpoints, start-up, loops."""
