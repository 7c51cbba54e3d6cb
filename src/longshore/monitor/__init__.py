"""conmon: its argv, pipes, sockets, exit files and logs."""
