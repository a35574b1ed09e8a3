"""What several stages share: partitions, automation conditions, metadata."""
