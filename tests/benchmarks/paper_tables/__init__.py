"""The paper's tables on the mini world, a cell at a time."""
