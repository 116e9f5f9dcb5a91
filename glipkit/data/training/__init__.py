"""From a configuration to what is learnt from."""
