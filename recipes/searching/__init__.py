"""What search.py is made of."""
