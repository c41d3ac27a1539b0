"""One self-contained HTML file about a run: read, build a view of it, render the view."""
