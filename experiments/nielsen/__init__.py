"""The published runs of Nielsen's "Neural Networks and Deep Learning" from their options, and the studies of its chapters."""
