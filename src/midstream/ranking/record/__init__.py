"""An answer comes in, its served record goes to the log, and the order after it to the next page."""
