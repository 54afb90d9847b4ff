"""What recipes/benchmark.py compares the GAN's update with."""
