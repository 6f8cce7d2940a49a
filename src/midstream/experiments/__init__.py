"""Control documents come from ``state`` and rankings from ``ranking``; assignments and drafts go to ``engine``."""
