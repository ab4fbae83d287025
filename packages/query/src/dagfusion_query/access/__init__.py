"""Who may read what: grants, and the tokens that carry them."""
