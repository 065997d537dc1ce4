"""Does the imagination carry the answer? Interventions on what a model imagined, what they do to its answers, and a card."""
