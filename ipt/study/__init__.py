"""Studies: many small runs that answer one question, trained, evaluated and reported together."""
