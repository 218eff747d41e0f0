"""`python -m service.cli`: the command line of this very Python."""

from service.cli import main

if __name__ == "__main__":
    main()
