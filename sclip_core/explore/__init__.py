"""``sclip explore``: a local page that shows what a model sees, on stored features."""
