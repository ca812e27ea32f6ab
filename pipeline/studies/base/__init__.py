"""What studies share: their form, what they may read, the judge, statistics."""
