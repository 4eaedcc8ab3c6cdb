"""``python -m pylinker`` runs the command ``pylinker``."""

from pylinker.cli import main

if __name__ == "__main__":
    main()
