"""Uses of per-example gradients, each an experiment with a report: what they find in data, and what they advise."""
