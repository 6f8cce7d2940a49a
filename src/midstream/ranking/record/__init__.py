"""An answer comes in, its served record goes to the log, and its continuation order to the next request."""
