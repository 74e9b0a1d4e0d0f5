"""The commands, a module each: a line of help, examples, options, and what the command does.

Their options are here without the libraries of any extra, so that all help can be read before they
are installed.
"""
