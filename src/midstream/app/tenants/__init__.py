"""A folder of tenants comes in, a server with one open shop for each goes out."""
