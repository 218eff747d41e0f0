"""Reading, checking, tokenizing and batching of task data."""
