"""Scrapes of real servers, told to the shipped alert rules as Prometheus would see them."""
