"""PyTorch networks: how one is trained, what it answers, and how it becomes a graph. Every module but `columns` needs PyTorch."""
