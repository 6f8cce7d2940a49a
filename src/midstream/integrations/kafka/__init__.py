"""Topics of Kafka: clients of two libraries become the consumers that ``engine`` reads from."""
