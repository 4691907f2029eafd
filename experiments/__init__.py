"""The runner: `python -m experiments NAME [--options]`, one module an experiment."""
