"""The constitution file: read, drawn from, written, shown, edited, imported and exported.

Start at `read`; `draw` says which principle a row gets.
"""
