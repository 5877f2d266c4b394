"""What does not follow the rules of the house yet. Each entry says why or goes; none is added."""

MODULES = 225
LINES = 36_000
"""Until the redesign is complete; then 200 and 30,000."""

BASENAMES = {("toolkit", "prompts.py"), ("toolkit", "scorer.py")}

LONG_MODULES: set[str] = set()

LONG_FUNCTIONS = {
    "training/probe.py:probe_run",
}

PRINTING = {
    "training/metrics_log.py",
    "training/probe.py",
    "training/precompute.py",
    "training/trainer.py",
}

CIRCLES = [["training.ema", "training.fsdp", "training.recipe"]]

VERBS_NOT_IN_README: set[str] = set()

DOCSTRING_EXAMPLES: set[str] = set()
