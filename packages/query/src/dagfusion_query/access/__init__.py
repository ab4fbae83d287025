"""Access control: grants, and the tokens that have them."""
