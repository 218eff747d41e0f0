"""Ideas against forgetting: one file a method."""
