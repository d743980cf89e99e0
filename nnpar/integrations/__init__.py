"""nnpar in other libraries' terms."""
