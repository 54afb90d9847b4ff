"""What check.py looks at before a training."""
