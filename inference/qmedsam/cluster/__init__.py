"""Folders too large for one machine, on a Ray cluster; `pip install '.[cluster]'`."""

LOCAL, AUTO = "local", "auto"  # addresses of clusters beside HOST:PORT
