"""Linux without container words: processes, files, locks, mounts, cgroups."""
