"""Which principles explain preferences that are there, and which ones would explain the rest."""
