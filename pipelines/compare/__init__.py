"""Methods held against each other: one stream, each from the base model, one table and page."""
