"""What one does to a constitution: lint, preview, diff, attribute, compare.

Pure functions over records, and beside each the function that asks a model for them.
"""
