"""What a constitution says, and how its file is read, edited, imported and exported.

Start at `read`; `draw` chooses the principle of a row, `edit` changes a file, `formats` holds other formats.
"""
