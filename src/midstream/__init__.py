"""midstream: a real-time recommendation engine. The next request sees the last click."""
