"""The revisions. Once released, a file here never changes."""
