"""Train one experiment: what recipes/train.py is made of."""
