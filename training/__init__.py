"""How the weights come to be: networks, checkpoints, export.

Importing `qmedsam` first keeps OpenVINO's usage reports off in the tools here as well.
"""

import qmedsam  # noqa: F401
