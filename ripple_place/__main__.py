"""Run the command line as ``python -m ripple_place``."""

from ripple_place.cli.main import main

if __name__ == "__main__":
    main()
