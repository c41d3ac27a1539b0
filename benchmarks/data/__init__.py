"""Runs and files of many rows: what each command takes of time and memory."""
