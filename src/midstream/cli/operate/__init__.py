"""Commands of maintenance come from a terminal, findings and changes are printed."""
