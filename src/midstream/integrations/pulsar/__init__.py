"""Topics of Pulsar: a client library and the broker's admin interface become a consumer that ``engine`` reads from."""
