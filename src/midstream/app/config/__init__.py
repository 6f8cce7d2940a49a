"""The text of midstream.toml comes in, one checked ``Config`` goes to the wiring."""
