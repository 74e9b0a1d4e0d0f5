"""Files of researchers, read as what the segmenter takes and written in their own geometry.

What these need beyond the runtime is installed by `pip install .[io]`. The rest of the package does
not import from here, but for the command where it is asked for these files.
"""
