"""The `glipkit` command: one file for each of its words."""
