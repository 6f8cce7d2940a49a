"""Control events come in, promotions, placements and import runs in force go out."""
