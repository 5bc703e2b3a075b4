"""`python -m edgelut`: the command line with a certain interpreter."""

from .cli import main

if __name__ == "__main__":
    main()
