"""Requests come from clients over HTTP, batches and questions go to ``engine``, its answers go back."""
