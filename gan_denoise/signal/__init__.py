"""Samples and spectra: STFTs, streams that take a signal piece by piece, resampling, alignment."""
