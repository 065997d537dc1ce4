"""Studies: many small runs that answer one question, trained, evaluated and told together."""
