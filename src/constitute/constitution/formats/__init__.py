"""Constitutions in public formats."""
