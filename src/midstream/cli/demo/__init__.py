"""Sessions of clicks come from a file, a live view of an engine that learns from them is printed."""
