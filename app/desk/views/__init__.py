"""The pages, one module each, and the panels that several of them draw."""
