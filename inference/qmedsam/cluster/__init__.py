"""Folders too large for one machine, on a Ray cluster; `pip install .[cluster]`."""
