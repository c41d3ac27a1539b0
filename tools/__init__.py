"""Build-time code; none of it is in the wheel."""
