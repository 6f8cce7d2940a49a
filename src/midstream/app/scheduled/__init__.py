"""Commands of timers: probes and backups go in, results and files of metrics come out."""
