"""A page to draw boxes on and see masks, served on this machine; `pip install '.[web]'`."""
