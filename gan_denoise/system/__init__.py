"""What surrounds the work: files, locks, worker processes, the terminal, names of recordings."""
