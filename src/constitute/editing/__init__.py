"""What one does to a constitution: lint, preview, diff, attribute, compare, each in its folder.

Pure functions over records, and beside each the function that asks a model for them. `votes` and `words`
serve several of them; `describe` has a model word the principles of a new file.
"""
