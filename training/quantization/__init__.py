"""The networks with 8-bit weights and activations, and good ranges to start from."""
