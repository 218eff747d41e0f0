"""Bodies of requests and answers. Nothing here imports torch or ray."""
