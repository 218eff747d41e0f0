"""What the command line shows: progress, tables, results."""
