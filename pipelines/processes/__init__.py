"""How processes of ours are started: what they may import, and where they look."""
