"""The opponents in recipes/benchmark.py's comparison of GAN updates."""
