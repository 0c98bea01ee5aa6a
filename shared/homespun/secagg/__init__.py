"""Masked sums with dropout recovery: a server learns the sum of many vectors and of no fewer."""
