"""The `glipkit` command: one file for each of its words; what they take is in `flags`."""
