"""Readers of PyTorch models; the only place, with the generator training, that imports torch."""
