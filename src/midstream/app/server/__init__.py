"""A data folder comes in, a server of one process or several goes out, and the address at which it listens."""
