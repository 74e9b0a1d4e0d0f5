"""A stage of training: steps, checkpoints, validation, and what is written meanwhile."""
