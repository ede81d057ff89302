"""How files come in: what is read, checked, stored and made a job of."""
