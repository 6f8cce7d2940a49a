"""Files and messages of foreign form come in, batches of events go to ``app.ingest`` and to inputs."""
