"""What the suite measures, how it compares, and what it keeps."""
