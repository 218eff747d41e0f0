"""`python -m ratchet.service.cli`: the command line of this very Python."""

from ratchet.service.cli import main

if __name__ == "__main__":
    main()
