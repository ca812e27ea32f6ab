"""A package, so that its tests share one Prefect server that ends with the last of them."""
