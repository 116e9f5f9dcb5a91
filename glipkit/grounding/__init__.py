"""Words: captions, tokens, and the map between phrases and tokens. No pixels."""
