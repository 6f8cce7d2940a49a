"""Comes from retrieval, goes to engine: filters, scorers and selectors, and the pipeline that runs a plan of them."""
