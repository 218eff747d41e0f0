"""The spec of an update: its sections, how it is read, every problem at once. Loads no torch."""
