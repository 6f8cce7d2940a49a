"""Outside systems, a file or folder each, behind an extra: what they hold goes to ``engine`` and to ``training``."""
