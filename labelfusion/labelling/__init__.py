"""Labelling by people: the journal of what they did, what to ask next, and what it brought.

Knows data sets, runs and scores. Knows no page: what is shown and pressed is `labelfusion.ui`'s.
"""
