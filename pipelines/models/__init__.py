"""The model that is taught: backbone, heads, adapters, statistics."""
