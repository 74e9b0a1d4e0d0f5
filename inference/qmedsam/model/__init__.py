"""The compiled network, which model it is, and what was compiled before; the home of OpenVINO."""
