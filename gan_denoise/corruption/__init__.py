"""How clean speech becomes noisy: the fixed procedure, recorded noise, and scenes for training."""
