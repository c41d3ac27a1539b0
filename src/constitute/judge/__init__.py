"""Examine a judge before it is believed: which method and layout of questions to label with, if any.

Start at `run`; `figures` holds what is measured of a judge, `copies` the pairs of which a judge should say
nothing.
"""
