"""From token ids to text features."""
