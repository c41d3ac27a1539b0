"""The command line: parse, load, call, print. Start at `main`, the table of commands."""
