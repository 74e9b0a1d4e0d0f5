"""How the weights come to be: networks, training, scores, export.

Importing `qmedsam` first keeps OpenVINO's usage reports off in the tools here as well.
"""

import qmedsam  # noqa: F401
