"""`python -m constitute`: the same as the console command."""

from constitute.cli.main import main

if __name__ == "__main__":
    main()
