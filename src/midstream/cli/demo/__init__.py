"""Sessions of clicks come from a file, a live picture of an engine that learns from them is printed."""
