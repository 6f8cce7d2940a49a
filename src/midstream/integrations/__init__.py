"""Outside systems, one file each, each behind an extra: what they hold goes to files, which ``training`` verifies."""
