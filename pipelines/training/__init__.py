"""The loop over one task and the trainer over the stream."""
