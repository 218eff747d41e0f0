"""What answers a text from a version's files, whoever asks: evaluation, gate, router, `predict`."""
