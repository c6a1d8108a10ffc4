"""The store: keys, manifests, ledgers and arrays on disk."""
