"""Units of systemd: their format, services that run containers, Quadlet files. Text in, text out.

Nothing here runs anything. Only `generator` looks at the disk, and systemd waits for it at each
boot and reload: the standard library, and little of it.
"""
