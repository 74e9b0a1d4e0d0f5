"""A trained network to the graphs that OpenVINO runs."""
