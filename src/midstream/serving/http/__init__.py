"""Connections come in, bounded requests go to the routes, their answers go back."""
