"""What each command takes, apart from what it does: reading flags imports no torch."""
