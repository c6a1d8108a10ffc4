"""The store on object storage: immutable objects, each put whole or not at all."""
