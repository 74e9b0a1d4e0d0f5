"""This machine: memory, cores, signals and files; Linux interfaces."""
