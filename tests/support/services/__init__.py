"""Real servers for tests: each is had by hash, started in a folder of its own on loopback, asked and stopped by pid."""
