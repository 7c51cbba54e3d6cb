"""Policy: what may happen, in which order, and how to clean up.

Nothing is imported here: conmon's exit command needs a part of this package only, and each start of
a Python counts. `longshore` itself offers the names.
"""
