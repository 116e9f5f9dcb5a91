"""Where a program runs: ranks, logs, seeds. Knows no vision."""
