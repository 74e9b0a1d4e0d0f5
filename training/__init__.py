"""How the weights come to be: networks, checkpoints, export.

Importing `inference` first keeps OpenVINO's usage reports off in the tools here as well.
"""

import inference  # noqa: F401
