"""Folders of cases: what is read, run, written and reported of each."""
