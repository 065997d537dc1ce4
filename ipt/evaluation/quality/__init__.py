"""How good imagined pictures are: as pictures, and for what they are for."""
