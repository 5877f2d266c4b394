"""The paper's tables on the mini world: declared in `tables`, run a cell at a time by `cells`."""
