"""Pixels and boxes to label maps: pure functions of arrays, and the pipeline that joins them."""
