"""HTTP requests of clients come in, batches and queries go to ``engine``, its answers go back."""
