"""Where containers and conmon are placed among the host's cgroups."""
