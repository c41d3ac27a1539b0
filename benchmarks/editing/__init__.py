"""Measurements of the tools that help to edit a constitution."""
